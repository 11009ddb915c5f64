"""A landed value is taken exactly or not at all."""

from datetime import UTC, datetime
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liftloop.contract.columns import Column
from liftloop.contract.files import FileLayout
from liftloop.landing.values import Landed, identifier, number, text, time, whole_number

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def connection() -> duckdb.DuckDBPyConnection:
    found = duckdb.connect()
    found.execute("SET TimeZone = 'UTC'")
    return found


def evaluate(connection: duckdb.DuckDBPyConnection, sql: str, value: Any, kind: str = "VARCHAR") -> Any:
    row = connection.execute(f"SELECT {sql} FROM (SELECT $1::{kind} AS x)", [value]).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize(
    ("written", "kind", "expected"),
    [
        ("101", "VARCHAR", "101"),
        ("101.0", "VARCHAR", "101"),
        ("007", "VARCHAR", "007"),
        ("1.50", "VARCHAR", "1.50"),
        ("12345678901234567890123", "VARCHAR", "12345678901234567890123"),
        ("1e19", "VARCHAR", None),
        ("1.23457E+15", "VARCHAR", None),
        ("10000000000000000000.0", "VARCHAR", None),
        ("05e10123", "VARCHAR", "05e10123"),  # a hash in hexadecimal
        (101.0, "DOUBLE", "101"),
        (0.5, "DOUBLE", "0.5"),
        (2.0**53, "DOUBLE", None),
        (2.0**24, "FLOAT", None),
        (2**63 - 1, "BIGINT", "9223372036854775807"),
        ("101.00", "DECIMAL(18, 2)", "101"),
        (None, "DOUBLE", None),
    ],
)
def test_ids(connection: duckdb.DuckDBPyConnection, written: Any, kind: str, expected: str | None) -> None:
    assert evaluate(connection, identifier("x", kind), written, kind) == expected


def test_other_text_stays_as_it_was_written(connection: duckdb.DuckDBPyConnection) -> None:
    assert evaluate(connection, text("x", "VARCHAR"), "10.0") == "10.0"


@pytest.mark.parametrize(
    ("written", "scale", "expected"),
    [
        ("5", None, 5),
        ("5.0", None, 5),
        ("1e3", None, 1000),
        ("0.5", None, None),
        ("9223372036854775807", None, 2**63 - 1),
        ("9223372036854775806.5", None, None),
        ("9223372036854775808", None, None),
        ("true", None, 1),
        ("False", None, 0),
        ("yes", None, None),
        ("1500", 0.001, None),
        ("2000", 0.001, 2),
        ("0.29", 100, 29),
        ("9223372036854775807", 0.5, None),
    ],
)
def test_whole_numbers(
    connection: duckdb.DuckDBPyConnection, written: str, scale: float | None, expected: int | None
) -> None:
    assert evaluate(connection, whole_number("x", scale), written) == expected


@pytest.mark.parametrize(
    ("written", "options", "expected"),
    [
        ("1,50", {"decimal": ","}, 1.5),
        ("1.234,50", {"decimal": ",", "thousands": "."}, 1234.5),
        ("1,234.50", {"thousands": ","}, 1234.5),
        ("1.234", {"decimal": ","}, None),  # a thousand, or a bit more than one?
        ("1.5", {}, 1.5),
        ("1,5", {}, None),
        ("1,5", {"thousands": ","}, None),  # no group of three digits
        ("12,34", {"thousands": ","}, None),
        ("1,,500", {"thousands": ","}, None),
        ("-1,234,567.5e1", {"thousands": ","}, -12345675.0),
        ("0.75", {"decimal": ",", "thousands": "."}, None),
        ("1500", {"decimal": ",", "thousands": "."}, 1500.0),
    ],
)
def test_numbers(
    connection: duckdb.DuckDBPyConnection, written: str, options: dict[str, Any], expected: float | None
) -> None:
    layout = FileLayout(path="log", format="csv", **options)
    assert evaluate(connection, number(Landed("x", layout=layout).plain_number, None), written) == expected


@pytest.mark.parametrize(
    "written",
    [
        "2026-01-05 12:00:00",
        "2026-01-05T12:00",
        "2026-01-05 12:00:00 UTC",
        "2026-01-05T12:00:00Z",
        "2026-01-05T12:00Z",
        "2026-01-05T12:00:00z",
        "2026-01-05 13:00:00 +0100",
        "2026-01-05T13:00:00+01",
        "2026-01-05T13:00+01:00",
        "2026-01-05T13:00:30+01:00:30",
        "2026-01-05 12:00:00,000",
        "2026-01-05T12:00:00,000Z",
        "20260105T120000Z",
        "20260105T1200Z",
        "2026-01-05 12:00:00 GMT",
        "2026-01-05 07:00:00 America/New_York",
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai"])
def test_spellings_of_a_time(connection: duckdb.DuckDBPyConnection, written: str, zone: str) -> None:
    """A zone in the text wins over the contract's."""
    has_zone = any(mark in written.upper()[10:] for mark in ("Z", "UTC", "GMT", "+", "AMERICA"))
    found = evaluate(connection, time("x", Column(**{"from": "x", "zone": zone})), written)
    assert found == (NOON if has_zone or zone == "UTC" else NOON.replace(hour=4))


@pytest.mark.parametrize(
    ("pattern", "written", "expected"),
    [
        ("yyyyMMddHHmmssSSS", "20130606000104008", datetime(2013, 6, 6, 0, 1, 4, 8000, tzinfo=UTC)),
        ("YYMMDDHH", "14102112", datetime(2014, 10, 21, 12, tzinfo=UTC)),
        ("M/d/yyyy h:mm:ss a", "11/3/2019 8:36:57 PM", datetime(2019, 11, 3, 20, 36, 57, tzinfo=UTC)),
        ("dd.MM.yyyy HH:mm", "05.01.2026 12:00", NOON),
        ("dd/MMM/yyyy:HH:mm:ss Z", "05/Jan/2026:13:00:00 +0100", NOON),
        ("yyyy-MM-dd'T'HH:mm", "2026-01-05T12:00", NOON),
        ("yyyy-MM-dd'T'HH:mmXXX", "2026-01-05T12:00Z", NOON),
        ("yyyy-MM-dd'T'HH:mm'Z'", "2026-01-05T12:00Z", NOON),
        ("yyyy-MM-dd HH 'o''clock' ''Z''", "2026-01-05 13 o'clock '+01:00'", NOON),
        ("yyyy-MM-dd HH:mm", "2026-13-05 12:00", None),
        ("epoch_seconds", "1767614400", NOON),
        ("epoch_seconds", "1767614400.5", NOON.replace(microsecond=500_000)),
        ("epoch_milliseconds", "1767614400001", NOON.replace(microsecond=1000)),
        ("epoch_microseconds", "1767614400000001", NOON.replace(microsecond=1)),
        ("epoch_nanoseconds", "1767614400000001000", NOON.replace(microsecond=1)),
        ("epoch_seconds", "1e300", None),
    ],
)
def test_patterns_and_epochs(
    connection: duckdb.DuckDBPyConnection, pattern: str, written: str, expected: datetime | None
) -> None:
    assert evaluate(connection, time("x", Column(**{"from": "x", "time": pattern})), written) == expected


def test_an_epoch_may_start_at_any_time(connection: duckdb.DuckDBPyConnection) -> None:
    column = Column(**{"from": "x", "time": "epoch_seconds", "since": "2026-01-05T00:00:00Z"})
    assert evaluate(connection, time("x", column), "43200") == NOON


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)))
def test_microseconds_are_exact(connection: duckdb.DuckDBPyConnection, moment: datetime) -> None:
    expected = moment.replace(tzinfo=UTC)
    since = expected - datetime(1970, 1, 1, tzinfo=UTC)
    microseconds = (since.days * 86_400 + since.seconds) * 10**6 + since.microseconds
    column = Column(**{"from": "x", "time": "epoch_microseconds"})
    assert evaluate(connection, time("x", column), str(microseconds)) == expected
    assert evaluate(connection, time("x", Column(**{"from": "x"})), expected.isoformat()) == expected


def test_numbers_of_other_formats_have_no_text_to_correct(connection: duckdb.DuckDBPyConnection) -> None:
    layout = FileLayout(path="log", format="parquet", decimal=",", thousands=".")
    (found,) = connection.execute(
        f"SELECT {number(Landed('1.5::DOUBLE', 'DOUBLE', layout).plain_number, None)}"
    ).fetchall()
    assert found == (1.5,)


@pytest.mark.parametrize(
    ("written", "expected"), [("5500", None), ("1234567890500", None), ("1234567891000", 1234567891)]
)
def test_a_scaled_whole_number_is_not_rounded(
    connection: duckdb.DuckDBPyConnection, written: str, expected: int | None
) -> None:
    assert evaluate(connection, whole_number("x", 0.001), written) == expected


@pytest.mark.parametrize("zone", ["BST", "CST", "IST", "CEST"])
def test_what_may_be_one_of_several_zones_is_not_guessed(connection: duckdb.DuckDBPyConnection, zone: str) -> None:
    column = Column.model_validate({"from": "x", "zone": "Europe/London"})
    assert evaluate(connection, time("x", column), f"2026-07-01 12:00:00 {zone}") is None
