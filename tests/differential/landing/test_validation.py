"""Dirty rows under every kind of rule: Great Expectations on pandas and on DuckDB, and the compiled rules, agree.

Where pandas and SQL differ by nature, we do this:

- NaN: for pandas a missing value, for SQL the largest number. Files are read as pandas does (`view_of_files`).
- Whole numbers beyond 2**53 in a column with gaps: pandas rounds them to floats, SQL does not. SQL is right.
- One value of a pair is missing: engines differ, so the rules demand `ignore_row_if: either_value_is_missing`.
- A missing value in a set: pandas ignores it, SQL's NOT IN would then find nothing. We ignore it.
"""

import math
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import great_expectations as gx
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from liftloop.contract.suite import Suite
from liftloop.landing.files import sort_rows, view_of_files
from liftloop.landing.rules import compile_rules
from liftloop.landing.validation import validate_files

SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("number", pa.float64()),
        ("other", pa.float64()),
        ("whole", pa.int64()),
        ("start", pa.timestamp("us", tz="UTC")),
        ("end", pa.timestamp("us", tz="UTC")),
        ("nothing", pa.string()),
    ]
)
TEXTS = st.sampled_from(["", " ", "a", "ü", "e\u0301", "👩‍👩‍👧", "\x00", "NULL", "nan", "x" * 300, "日本"]) | st.text(
    max_size=5
)
NUMBERS = st.sampled_from([0.0, -0.0, 1.0, math.nan, math.inf, -math.inf, 1e308, -1e308, 5e-324, 0.1]) | st.floats()
WHOLES = st.sampled_from([0, 1, 2, -1, 2**53 + 2, 2**63 - 1, -(2**63)])
TIMES = st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # what pandas can hold
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.none() | TEXTS,
            "number": st.none() | NUMBERS,
            "other": st.none() | NUMBERS,
            "whole": st.none() | WHOLES,
            "start": st.none() | TIMES,
            "end": st.none() | TIMES,
            "nothing": st.none(),
        }
    ),
    max_size=8,
)


def _on(column: str, kind: str, **kwargs: Any) -> dict[str, Any]:
    return {"type": kind, "kwargs": {"column": column, **kwargs}}


def _pair(a: str, b: str, **kwargs: Any) -> dict[str, Any]:
    kwargs |= {"column_A": a, "column_B": b, "ignore_row_if": "either_value_is_missing"}
    return {"type": "expect_column_pair_values_a_to_be_greater_than_b", "kwargs": kwargs}


_NOT_NULL, _IN_SET = "expect_column_values_to_not_be_null", "expect_column_values_to_be_in_set"
_BETWEEN, _LENGTHS = "expect_column_values_to_be_between", "expect_column_value_lengths_to_be_between"
SUITE: Suite = {
    "name": "dirty",
    "expectations": [
        {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}},
        *(_on(name, _NOT_NULL) for name in SCHEMA.names),
        _on("text", _IN_SET, value_set=["a", "ü", "e\u0301", ""]),
        _on("text", _IN_SET, value_set=["it's", None]),
        _on("whole", _IN_SET, value_set=[0, 1]),
        _on("number", _IN_SET, value_set=[0, 1, 0.1]),
        _on("nothing", _IN_SET, value_set=["a"]),
        _on("number", _BETWEEN, min_value=0, strict_min=True, max_value=1),
        _on("number", _BETWEEN, min_value=0),
        _on("number", _BETWEEN, max_value=1e300, strict_max=True),
        _on("whole", _BETWEEN, min_value=0, max_value=1),
        _on("text", _LENGTHS, min_value=1, max_value=256),
        _on("text", _LENGTHS, min_value=0, strict_min=True),
        _on("text", _LENGTHS, max_value=2, strict_max=True),
        _pair("end", "start", or_equal=True),
        _pair("number", "other"),
        _pair("number", "other", or_equal=True),
    ],
}


SUITE["expectations"] = [
    expectation | {"description": f"rule {number}"} for number, expectation in enumerate(SUITE["expectations"])
]
Verdicts = dict[str, tuple[bool, int]]  # by description: is it met, and how many rows break it


def on_pandas(rows: pd.DataFrame, suite: Suite) -> Verdicts:
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    batch = context.data_sources.add_pandas("p").add_dataframe_asset("rows").add_batch_definition_whole_dataframe("all")
    definition = gx.ValidationDefinition(name="v", data=batch, suite=context.suites.add(gx.ExpectationSuite(**suite)))
    context.validation_definitions.add(definition)
    results = definition.run(batch_parameters={"dataframe": rows}, result_format="BASIC").results
    found: list[Any] = [*results]  # mypy holds each one's configuration for optional
    return {result.expectation_config.description: _verdict(result) for result in found}


def _verdict(result: Any) -> tuple[bool, int]:
    assert not (result.exception_info or {}).get("raised_exception"), result.exception_info
    count = result.result.get("unexpected_count")
    return bool(result.success), int(not result.success) if count is None else count


def on_duckdb(path: Path, suite: Suite) -> Verdicts:
    return {each.expectation: (each.is_met, each.unexpected_count) for each in validate_files([path], suite)}


def compiled(path: Path, suite: Suite, folder: Path) -> Verdicts:
    """The rules by themselves, as they sort the rows."""
    rules = compile_rules(suite)
    with duckdb.connect() as connection:
        view_of_files(connection, "files", [path])
        sort_rows(connection, "files", rules, folder)
        files = [str(path) for path in folder.glob("*/*.parquet")]
        rows = connection.execute(f"SELECT rows, reasons FROM read_parquet({files})").fetchall() if files else []
        counts = ", ".join(f"count(*) FILTER ({rule.violation})" for rule in rules)
        (row,) = connection.execute(f"SELECT {counts} FROM files").fetchall()
    assert all((kind == "clean") == (reasons is None) for kind, reasons in rows)
    assert sum(len(reasons or ()) for _, reasons in rows) == sum(row)
    return {rule.expected: (count == 0, count) for rule, count in zip(rules, row, strict=True)}


def test_all_three_agree_on_dirty_rows() -> None:
    seen = 0

    @settings(max_examples=12, phases=(Phase.explicit, Phase.generate))  # shrinking would take minutes
    @given(ROWS)
    @example([])
    def check(rows: list[dict[str, Any]]) -> None:
        nonlocal seen
        seen += _compare(rows)

    check()
    assert seen > 50  # there was something to disagree about


def _compare(rows: list[dict[str, Any]]) -> int:
    """The number of rows found broken, once by each rule."""
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    with TemporaryDirectory() as name:
        path = Path(name) / "rows.parquet"
        pq.write_table(table, path)
        ours = on_duckdb(path, SUITE)
        row_level = compiled(path, SUITE, Path(name) / "sorted")
    assert ours == on_pandas(table.to_pandas(), SUITE)
    assert ours == {"rule 0": (bool(rows), int(not rows))} | row_level
    return sum(count for _, count in row_level.values())


def test_no_rules_leave_every_row_clean(tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t AS FROM range(3) AS r(n)")
        sort_rows(connection, "t", [], tmp_path / "sorted")
        assert connection.execute(f"SELECT DISTINCT rows, reasons FROM '{tmp_path}/sorted/*/*.parquet'").fetchall() == [
            ("clean", None)
        ]


def test_a_table_whose_columns_are_called_like_ours_is_refused(tmp_path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS Rows, 'why' AS reasons")
        with pytest.raises(ValueError, match=r"\['reasons', 'rows'\].*rename them"):
            sort_rows(connection, "t", [], tmp_path / "sorted")
