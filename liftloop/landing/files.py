"""Parquet and CSV files, local or in S3, under the rules: read as one table, and sorted into good rows and bad ones."""

from collections.abc import Sequence
from pathlib import Path

import duckdb

from liftloop.landing.rules import Rule, reasons_of
from liftloop.storage.duckdb import literal, quoted

_READERS = {".parquet": "read_parquet", ".csv": "read_csv", ".tsv": "read_csv"}


def view_of_files(connection: duckdb.DuckDBPyConnection, name: str, uris: Sequence[str | Path]) -> None:
    """Name files of one format as a view. NaN is missing in it, as in pandas; SQL would hold it for the largest number.

    Raises:
        ValueError: no files, or no reader for files of this name.
    """
    if not uris:
        raise ValueError("no files to read: name at least one")
    suffix = Path(str(uris[0]).removesuffix(".gz")).suffix
    if suffix not in _READERS:
        raise ValueError(f"{uris[0]}: cannot tell its format by its name; known: {', '.join(_READERS)}")
    rows = f"{_READERS[suffix]}([{', '.join(map(literal, uris))}])"
    described = connection.execute(f"DESCRIBE FROM {rows}").fetchall()
    numbers = [quoted(column) for column, kind, *_ in described if kind in {"DOUBLE", "FLOAT"}]
    mended = ", ".join(f"if(isnan({column}), NULL, {column}) AS {column}" for column in numbers)
    replaced = f"REPLACE ({mended})" if mended else ""
    connection.execute(f"CREATE OR REPLACE VIEW {quoted(name)} AS SELECT * {replaced} FROM {rows}")


def sort_rows(connection: duckdb.DuckDBPyConnection, table: str, rules: Sequence[Rule], folder: Path) -> None:
    """Copy a table or view in one pass: good rows to `folder/rows=clean/`, the others to `folder/rows=quarantine/`.

    Both are Parquet and have one column more, `reasons`: what the row breaks; null for a good row.

    Raises:
        ValueError: the table has a column of its own that is called `rows` or `reasons`.
    """
    columns = {name.lower() for name, *_ in connection.execute(f"DESCRIBE {quoted(table)}").fetchall()}
    if taken := sorted(columns & {"rows", "reasons"}):
        raise ValueError(f"{table} has columns {taken}, which the sorted rows get: rename them")
    is_bad = " OR ".join(["false", *(f"coalesce({rule.violation}, false)" for rule in rules)])
    connection.execute(f"""
        COPY (SELECT *, if(reasons IS NULL, 'clean', 'quarantine') AS rows
              FROM (SELECT *, CASE WHEN {is_bad} THEN {reasons_of(rules)} END AS reasons FROM {quoted(table)}))
        TO {literal(folder)} (FORMAT parquet, PARTITION_BY (rows))
    """)
