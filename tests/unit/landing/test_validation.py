"""The suite says the same when Great Expectations runs it and when its rules sort rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import great_expectations as gx
import pytest
from great_expectations.core import ExpectationValidationResult

from liftloop.contract.contract import CANONICAL_TYPES
from liftloop.contract.suite import SuiteError, load_suite
from liftloop.landing.rules import compile_rules
from liftloop.landing.validation import validate

BAD_VALUES = {
    "impression_id": ["NULL", "''", "repeat('x', 300)", "'ü'"],
    "event_timestamp": ["NULL", "now() + INTERVAL 1 DAY", "TIMESTAMPTZ '1970-01-01'"],
    "propensity": ["NULL", "0", "-0.1", "1.1", "'nan'::DOUBLE", "'inf'::DOUBLE", "1"],
    "eligible_ads": ["NULL", "'[]'", "'[\"b\"]'", '\'["b","a"]\''],
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
    expectation = rule_in_sql("SELECT * FROM {batch} WHERE regexp_matches(ad_id, 'a{{3}}')")
    (rule,) = compile_rules({"name": "s", "expectations": [expectation]})
    assert rule.violation == "regexp_matches(ad_id, 'a{3}')"


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("SELECT * FROM {batch} WHERE n > 89", 10),
        ("SELECT * FROM {batch} WHERE n > 200", 0),
        ("SELECT * FROM {batch} WHERE text LIKE '%-3' AND n::VARCHAR != '{{3}}'", 10),
        ("SELECT * FROM {batch} WHERE n > 20 LIMIT 7", 7),
        ("SELECT n % 4 AS part FROM {batch} GROUP BY part", 4),
        ("SELECT a.n FROM {batch} AS a JOIN {batch} AS b ON a.n = b.n + 1", 99),
        ("SELECT * FROM {batch} WHERE n < 5 -- few", 5),
    ],
)
def test_the_engine_counts_a_rule_in_sql_whatever_its_form(lake: Path, query: str, count: int) -> None:
    result = run_in_a_project_of_its_own(lake, [query])[query]
    assert (result.result["observed_value"], result.success) == (count, count == 0)


def test_a_broken_rule_spoils_no_other(lake: Path) -> None:
    broken, good = "SELECT * FROM {batch} WHERE nothing > 1", "SELECT * FROM {batch} WHERE n > 98"
    results = run_in_a_project_of_its_own(lake, [broken, good])
    assert results[good].result["observed_value"] == 1
    assert '"nothing" not found' in str(results[broken].exception_info)


def test_a_value_that_breaks_a_rule_spoils_no_other(lake: Path) -> None:
    broken, good = "SELECT * FROM {batch} WHERE text::INT > 1", "SELECT * FROM {batch} WHERE n > 98"
    results = run_in_a_project_of_its_own(lake, [broken, good])
    assert results[good].result["observed_value"] == 1
    assert "Could not convert string" in str(results[broken].exception_info)


def test_a_broken_rule_is_a_finding_that_names_the_error(connection: duckdb.DuckDBPyConnection) -> None:
    rule = rule_in_sql("SELECT * FROM {batch} WHERE nothing > 1")
    (finding,) = validate(connection, "impressions", {"name": "s", "expectations": [rule]})
    assert not finding.is_met
    assert "nothing" in finding.examples[0]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A hundred rows in a database."""
    path = tmp_path / "lake.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE numbers AS SELECT n, n % 7 || '-' || n % 10 AS text FROM range(100) AS r(n)")
    return path


def run_in_a_project_of_its_own(lake: Path, queries: list[str]) -> dict[str, ExpectationValidationResult]:
    """As a user of Great Expectations alone adopts the engine."""
    context = gx.get_context(mode="ephemeral")
    source = context.data_sources.add_duckdb(name="lake", connection_string=f"duckdb:///{lake}")
    batch = source.add_table_asset(name="n", table_name="numbers").add_batch_definition_whole_table("all").get_batch()
    suite = gx.ExpectationSuite("s", expectations=[rule_in_sql(query) for query in queries])
    return {each.expectation_config.kwargs["unexpected_rows_query"]: each for each in batch.validate(suite).results}


def rule_in_sql(query: str) -> dict[str, Any]:
    return {
        "type": "unexpected_rows_expectation",
        "description": "d",
        "kwargs": {"unexpected_rows_query": query},
    }
