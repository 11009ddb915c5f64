"""The suite says the same when Great Expectations runs it and when its rules sort rows."""

from collections.abc import Iterator

import duckdb
import pytest

from liftloop.contract import CANONICAL_TYPES
from liftloop.landing.rules import SuiteError, compile_rules, load_suite
from liftloop.landing.validation import validate

BAD_VALUES = {
    "impression_id": ["NULL", "''", "repeat('x', 300)", "'ü'"],
    "event_timestamp": ["NULL", "now() + INTERVAL 1 DAY", "TIMESTAMPTZ '1970-01-01'"],
    "propensity": ["NULL", "0", "-0.1", "1.1", "'nan'::DOUBLE", "'inf'::DOUBLE", "1"],
    "click": ["NULL", "2", "-1"],
    "conversion": ["NULL", "1", "7"],
    "revenue": ["NULL", "-0.01", "1e300", "'nan'::DOUBLE"],
    "outcome_timestamp": ["NULL", "TIMESTAMPTZ '2026-01-04'"],
}
GOOD = {
    "impression_id": "'i'",
    "event_timestamp": "TIMESTAMPTZ '2026-01-05'",
    "placement_id": "'p'",
    "ad_id": "'a'",
    "click": "0",
    "outcome_timestamp": "TIMESTAMPTZ '2026-01-05'",
}


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """An empty table of impressions."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        columns = ", ".join(f"{name} {kind}" for name, kind in CANONICAL_TYPES.items())
        connection.execute(f"CREATE TABLE impressions ({columns})")
        yield connection


def insert(connection: duckdb.DuckDBPyConnection, row: dict[str, str]) -> None:
    connection.execute(f"INSERT INTO impressions ({', '.join(row)}) VALUES ({', '.join(row.values())})")


def test_rules_and_great_expectations_count_the_same(connection: duckdb.DuckDBPyConnection) -> None:
    for row in [GOOD, *(GOOD | {name: value} for name, values in BAD_VALUES.items() for value in values)]:
        insert(connection, row)
    rules = compile_rules(load_suite())
    queries = [f"SELECT count(*) FROM impressions WHERE {rule.violation}" for rule in rules]
    counted = [count for query in queries for (count,) in connection.execute(query).fetchall()]
    findings = {
        finding.expectation: finding.unexpected_count for finding in validate(connection, "impressions", load_suite())
    }
    assert {rule.expected: count for rule, count in zip(rules, counted, strict=True)} | {
        "there are rows": 0
    } == findings
    assert sum(counted) > 10


def test_clean_data_meets_every_expectation(connection: duckdb.DuckDBPyConnection) -> None:
    insert(connection, GOOD)
    findings = validate(connection, "impressions", load_suite())
    assert [finding for finding in findings if not finding.is_met] == []
    assert len(findings) == len(load_suite()["expectations"])


@pytest.mark.parametrize(
    "expectation",
    [
        {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "click"}},
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "click", "mostly": 0.9}},
        {"type": "unexpected_rows_expectation", "kwargs": {"unexpected_rows_query": "SELECT 1 FROM {batch}"}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "click"}},
        {
            "type": "expect_column_pair_values_a_to_be_greater_than_b",
            "kwargs": {"column_A": "click", "column_B": "conversion"},
        },
    ],
)
def test_what_cannot_sort_rows_is_refused(expectation: dict[str, object]) -> None:
    with pytest.raises(SuiteError):
        compile_rules({"name": "s", "expectations": [expectation]})


def test_doubled_braces_are_single_ones_in_sql() -> None:
    query = "SELECT * FROM {batch} WHERE regexp_matches(ad_id, 'a{{3}}')"
    expectation = {
        "type": "unexpected_rows_expectation",
        "description": "d",
        "kwargs": {"unexpected_rows_query": query},
    }
    (rule,) = compile_rules({"name": "s", "expectations": [expectation]})
    assert rule.violation == "regexp_matches(ad_id, 'a{3}')"
