"""Parquet and CSV files, local or in S3, as one table, and its good and bad rows under the data rules."""

from collections.abc import Sequence
from pathlib import Path

import duckdb

from liftloop.landing.rules import Rule, reasons_of
from liftloop.storage.duckdb import literal, quoted

_READERS = {".parquet": "read_parquet", ".csv": "read_csv", ".tsv": "read_csv"}


def view_of_files(connection: duckdb.DuckDBPyConnection, name: str, uris: Sequence[str | Path]) -> None:
    """Create a view of files of one format. NaN becomes NULL, as in pandas; SQL would treat it as the largest number.

    Raises:
        ValueError: no files, or the suffix of the first one is unknown.
    """
    if not uris:
        raise ValueError("no files to read: name at least one")
    suffix = Path(str(uris[0]).removesuffix(".gz")).suffix
    if suffix not in _READERS:
        raise ValueError(f"{uris[0]}: unknown file format; allowed suffixes: {', '.join(_READERS)}")
    rows = f"{_READERS[suffix]}([{', '.join(map(literal, uris))}])"
    described = connection.execute(f"DESCRIBE FROM {rows}").fetchall()
    numbers = [quoted(column) for column, kind, *_ in described if kind in {"DOUBLE", "FLOAT"}]
    replacements = ", ".join(f"if(isnan({column}), NULL, {column}) AS {column}" for column in numbers)
    replace_clause = f"REPLACE ({replacements})" if replacements else ""
    connection.execute(f"CREATE OR REPLACE VIEW {quoted(name)} AS SELECT * {replace_clause} FROM {rows}")


def sort_rows(connection: duckdb.DuckDBPyConnection, table: str, rules: Sequence[Rule], folder: Path) -> None:
    """Copy a table or view in one pass: good rows to `folder/rows=clean/`, the others to `folder/rows=quarantine/`.

    Both are Parquet and have an additional column `reasons`: why the row is bad; null for a good row.

    Raises:
        ValueError: the table already has a column `rows` or `reasons`.
    """
    columns = {name.lower() for name, *_ in connection.execute(f"DESCRIBE {quoted(table)}").fetchall()}
    if taken := sorted(columns & {"rows", "reasons"}):
        raise ValueError(f"{table} has columns {taken}, whose names are reserved for the output: rename them")
    connection.execute(f"""
        COPY (SELECT *, if(reasons IS NULL, 'clean', 'quarantine') AS rows
              FROM (SELECT *, nullif({reasons_of(rules)}, []::VARCHAR[]) AS reasons FROM {quoted(table)}))
        TO {literal(folder)} (FORMAT parquet, PARTITION_BY (rows))
    """)
