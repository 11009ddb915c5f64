"""The suite says the same when Great Expectations runs it and when its rules sort rows."""

from pathlib import Path

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
def database(tmp_path: Path) -> Path:
    """One row for each bad value, on its own."""
    path = tmp_path / "batch.duckdb"
    with duckdb.connect(str(path)) as connection:
        columns = ", ".join(f"{name} {kind}" for name, kind in CANONICAL_TYPES.items())
        connection.execute(f"CREATE TABLE impressions ({columns})")
        rows = [GOOD, *(GOOD | {name: value} for name, values in BAD_VALUES.items() for value in values)]
        for row in rows:
            connection.execute(f"INSERT INTO impressions ({', '.join(row)}) VALUES ({', '.join(row.values())})")
    return path


def test_rules_and_great_expectations_count_the_same(database: Path) -> None:
    rules = compile_rules(load_suite())
    with duckdb.connect(str(database)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        queries = [f"SELECT count(*) FROM impressions WHERE {rule.violation}" for rule in rules]
        counted = [count for query in queries for (count,) in connection.execute(query).fetchall()]
    findings = {
        finding.expectation: finding.unexpected_count for finding in validate(database, "impressions", load_suite())
    }
    assert {rule.expected: count for rule, count in zip(rules, counted, strict=True)} | {
        "there are rows": 0
    } == findings
    assert sum(counted) > 10


def test_clean_data_meets_every_expectation(tmp_path: Path) -> None:
    path = tmp_path / "batch.duckdb"
    with duckdb.connect(str(path)) as connection:
        columns = ", ".join(f"{name} {kind}" for name, kind in CANONICAL_TYPES.items())
        connection.execute(f"CREATE TABLE impressions ({columns})")
        connection.execute(f"INSERT INTO impressions ({', '.join(GOOD)}) VALUES ({', '.join(GOOD.values())})")
    findings = validate(path, "impressions", load_suite())
    assert [finding for finding in findings if not finding.is_met] == []
    assert len(findings) == len(load_suite()["expectations"])


@pytest.mark.parametrize(
    "expectation",
    [
        {"type": "expect_column_values_to_be_unique", "kwargs": {"column": "click"}},
        {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "click", "mostly": 0.9}},
        {"type": "unexpected_rows_expectation", "kwargs": {"unexpected_rows_query": "SELECT 1 FROM {batch}"}},
    ],
)
def test_what_cannot_sort_rows_is_refused(expectation: dict[str, object]) -> None:
    with pytest.raises(SuiteError):
        compile_rules({"name": "s", "expectations": [expectation]})
