"""The impressions' suite on one Parquet file: Great Expectations on pandas, a hand-written scan, and our engine.

    python -m bench.validation [--rows 5000000]

One row in a hundred is dirty. Memory is compared with ten times the rows. A copy of the file takes longer than the
check of it whatever is written, so the sorted copy has two cases: the bad rows alone against the check, and both parts
against the check and a plain copy.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import duckdb
import great_expectations as gx
import pandas as pd

from bench.measure import Case, Sample, in_fresh_process, interleaved, report
from liftloop.contract.suite import load_suite
from liftloop.landing.files import sort_rows, view_of_files
from liftloop.landing.rules import Rule, compile_rules, reasons_of
from liftloop.landing.validation import validate_files
from liftloop.storage.duckdb import literal

ROWS = 5_000_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=ROWS)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory(prefix="liftloop-") as name:
        file, larger = Path(name) / "impressions.parquet", Path(name) / "ten_times.parquet"
        for path, count in ((file, rows), (larger, 10 * rows)):
            generate(path, count)
        runs = {
            "Great Expectations on pandas": partial(on_pandas, file),
            "ours": partial(ours, file),
            "hand-written scan": partial(hand_written, file),
            "ours: bad rows alone": partial(quarantine, file),
            "ours: bad rows and clean copy": partial(sort, file),
            "hand-written scan and plain copy": partial(check_and_copy, file),
        }
        samples = interleaved(runs)
        report("validation", _cases(rows, samples, in_fresh_process(partial(ours, larger))), rows=rows)


def _cases(rows: int, samples: dict[str, Sample], larger: Sample) -> list[Case]:
    pandas, ours, scan, bad, both, copy = samples.values()
    return [
        Case("suite, against pandas", rows / ours.seconds, rows / pandas.seconds, 4, "rows/s", is_rate=True),
        Case("suite, against a hand-written scan", ours.seconds, scan.seconds, 2, "s"),
        Case("bad rows with reasons, against the scan", bad.seconds, scan.seconds, 1.5, "s"),
        Case("and clean copy, against scan and plain copy", both.seconds, copy.seconds, 1.5, "s"),
        Case("peak memory, ten times the rows", larger.peak_bytes / 2**20, ours.peak_bytes / 2**20, 1.2, "MiB"),
    ]


def generate(path: Path, rows: int) -> None:
    """Impressions that are the same in every run; ten kinds of dirt, each in one row of a thousand."""
    with _connection() as connection:
        connection.execute(f"COPY ({_IMPRESSIONS.format(rows=rows)}) TO {literal(path)} (FORMAT parquet)")


_IMPRESSIONS = """
    SELECT CASE dirt WHEN 0 THEN NULL WHEN 1 THEN repeat('x', 300) ELSE 'i' || i END AS impression_id,
        CASE dirt WHEN 2 THEN TIMESTAMPTZ '1999-01-01 00:00:00+00' ELSE served END AS event_timestamp,
        'p' || i % 9 AS placement_id, CASE dirt WHEN 3 THEN '' ELSE 'a' || h % 80 END AS ad_id,
        'c' || h % 20 AS campaign_id, 'v' || h % 10 AS advertiser_id, 's' || i % 5 AS site_id,
        'u' || h % 100000 AS user_id,
        CASE dirt WHEN 4 THEN 1.5 WHEN 5 THEN 0 ELSE (1 + h % 1000) / 1001 END AS propensity,
        CASE dirt WHEN 6 THEN 2 ELSE (h % 50 = 0)::BIGINT END AS click,
        CASE dirt WHEN 7 THEN 1 ELSE 0 END::BIGINT AS conversion,
        CASE dirt WHEN 8 THEN -1 ELSE h % 100 / 100 END::DOUBLE AS revenue, (h % 70 / 1000)::DOUBLE AS cost,
        served + CASE dirt WHEN 9 THEN -1 ELSE 1 END * INTERVAL 10 MINUTE AS outcome_timestamp, 'uniform' AS policy
    FROM (
        SELECT i, hash(i) >> 8 AS h, TIMESTAMPTZ '2026-01-05 00:00:00+00' + to_milliseconds(i) AS served,
            CASE WHEN hash(i + 7) % 100 = 0 THEN (hash(i + 7) >> 8) % 10 END AS dirt
        FROM range({rows}) AS range(i)
    )
"""


def on_pandas(path: Path) -> None:
    """What the pandas engine can run: all but the rules in SQL."""
    suite = load_suite()
    in_sql = "unexpected_rows_expectation"
    suite["expectations"] = [each for each in suite["expectations"] if each["type"] != in_sql]
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    batch = context.data_sources.add_pandas("p").add_dataframe_asset("rows").add_batch_definition_whole_dataframe("all")
    definition = gx.ValidationDefinition(name="v", data=batch, suite=context.suites.add(gx.ExpectationSuite(**suite)))
    context.validation_definitions.add(definition)
    definition.run(batch_parameters={"dataframe": pd.read_parquet(path)}, result_format="BASIC")


def ours(path: Path) -> None:
    validate_files([path], load_suite())


def hand_written(path: Path) -> None:
    """The row-level rules as one aggregate query."""
    with _connection() as connection:
        _count(connection, path)


def check_and_copy(path: Path) -> None:
    """What it takes to know the counts and to have a copy, bad rows and all."""
    with _connection() as connection, tempfile.TemporaryDirectory(dir=path.parent) as folder:
        _count(connection, path)
        connection.execute(f"COPY (FROM {literal(path)}) TO '{folder}/copy.parquet' (FORMAT parquet)")


def quarantine(path: Path) -> None:
    with _connection() as connection:
        rules = compile_rules(load_suite())
        view_of_files(connection, "files", [path])
        bad = f"SELECT *, {reasons_of(rules)} AS reasons FROM files WHERE {_any(rules)}"
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            connection.execute(f"COPY ({bad}) TO '{folder}/bad.parquet' (FORMAT parquet)")


def sort(path: Path) -> None:
    with _connection() as connection, tempfile.TemporaryDirectory(dir=path.parent) as folder:
        view_of_files(connection, "files", [path])
        sort_rows(connection, "files", compile_rules(load_suite()), Path(folder) / "sorted")


def _count(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    counts = ", ".join(f"count(*) FILTER ({rule.violation})" for rule in compile_rules(load_suite()))
    connection.execute(f"SELECT count(*), {counts} FROM {literal(path)}").fetchall()


def _any(rules: list[Rule]) -> str:
    return " OR ".join(f"coalesce({rule.violation}, false)" for rule in rules)


def _connection() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    return connection


if __name__ == "__main__":
    main()
