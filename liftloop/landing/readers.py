"""Readers: a landed file as a view of its rows, within limits that a broken or hostile file cannot exceed."""

import csv
import gzip
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from liftloop.contract.sections import FileFormat
from liftloop.storage.duckdb import literal, quoted

_SEPARATORS = {"csv": ",", "tsv": "\t"}
_MOST_COLUMNS = 2_000  # DuckDB's run time is quadratic in the columns
_COPY_BYTES = 2**20


class FileRejectedError(ValueError):
    """The file does not match its contract; all of it goes to quarantine, with this message."""


def create_view(
    connection: duckdb.DuckDBPyConnection, name: str, path: Path, kind: FileFormat, limit: int, encoding: str = "utf-8"
) -> list[str]:
    """Create a view of a file's rows; returns the names of its columns.

    Args:
        limit: the most bytes that it may unpack to.

    Raises:
        FileRejectedError: the file is empty, has too many columns, unpacks to more bytes, or is not of this kind.
    """
    plain = _gunzip(path, limit) if _is_packed(path) else path
    if plain.stat().st_size == 0:
        raise FileRejectedError("the file is empty")
    if kind == "parquet":
        _require_size_limit(_parquet_bytes(connection, plain), limit)
    reader = {"parquet": _parquet_reader, "jsonl": _json_reader}.get(kind, _delimited_reader)
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {quoted(name)} AS {reader(connection, plain, kind, encoding)}")
    return [row[0] for row in connection.execute(f"DESCRIBE {quoted(name)}").fetchall()]


def remove_unpacked(path: Path) -> None:
    """Delete the file that `create_view` unpacked; call it once the view has been read."""
    if _is_packed(path):
        path.with_suffix("").unlink(missing_ok=True)


def _is_packed(path: Path) -> bool:
    return path.suffix == ".gz"


def _gunzip(path: Path, limit: int) -> Path:
    plain = path.with_suffix("")
    with gzip.open(path) as packed, plain.open("wb") as target:
        while piece := packed.read(_COPY_BYTES):
            target.write(piece)
            _require_size_limit(target.tell(), limit)
    return plain


def _parquet_bytes(connection: duckdb.DuckDBPyConnection, path: Path) -> int:
    """Bytes of its values when unpacked: at least one each, because a run of one value is stored as two bytes."""
    unpacked = "greatest(sum(total_uncompressed_size), sum(num_values))"
    row = connection.execute(f"SELECT {unpacked} FROM parquet_metadata({literal(path)})").fetchone()
    return (row and row[0]) or 0


def _require_size_limit(size_bytes: int, limit: int) -> None:
    if size_bytes > limit:
        raise FileRejectedError(
            f"it unpacks to more than {limit:,} bytes (LIFTLOOP_MAX_EXPANDED_BYTES): land it in parts"
        )


def _parquet_reader(_connection: duckdb.DuckDBPyConnection, path: Path, _kind: FileFormat, _encoding: str) -> str:
    _require_unique_names(pq.read_schema(path).names)
    return f"SELECT * FROM read_parquet({literal(path)})"


def _delimited_reader(_connection: duckdb.DuckDBPyConnection, path: Path, kind: FileFormat, encoding: str) -> str:
    """Names come from the header; types are not guessed, which fails or misleads when the first rows are broken."""
    separator = _SEPARATORS[kind]
    codec = "utf-8-sig" if encoding == "utf-8" else encoding
    with path.open(encoding=codec, errors="surrogateescape", newline="") as lines:
        header = next(csv.reader(lines, delimiter=separator))
    if any(character < " " or "\udc80" <= character <= "\udcff" for name in header for character in name):
        raise FileRejectedError(f"the header is not {encoding}: set landing.encoding in the contract")
    if not header:
        raise FileRejectedError("the first line is blank; it must name the columns")
    names = [name or f"column_{i}" for i, name in enumerate(header)]
    _require_column_limit(len(names))
    _require_unique_names(names)
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    return (
        f"SELECT * FROM read_csv({literal(path)}, columns = {{{columns}}}, auto_detect = false, header = true,"
        f" delim = {literal(separator)}, quote = '\"', escape = '\"', encoding = {literal(encoding)},"
        " store_rejects = true)"
    )


def _require_column_limit(columns: int) -> None:
    if columns > _MOST_COLUMNS:
        raise FileRejectedError(f"it has {columns:,} columns; at most {_MOST_COLUMNS:,} can be read")


def _require_unique_names(names: Sequence[str]) -> None:
    if repeated := sorted(name for name, times in Counter(names).items() if times > 1):
        raise FileRejectedError(f"the header names {repeated} twice")


def _json_reader(connection: duckdb.DuckDBPyConnection, path: Path, _kind: FileFormat, encoding: str) -> str:
    """Reads each line as text first, so that a broken line costs one row instead of the file."""
    lines = (
        f"read_csv({literal(path)}, columns = {{'json_line': 'VARCHAR'}}, auto_detect = false, header = false,"
        f" delim = '\\0', quote = '', escape = '', encoding = {literal(encoding)}, store_rejects = true)"
    )
    found = connection.execute(
        f"SELECT DISTINCT unnest(json_keys(json_line)) AS name FROM {lines} WHERE json_valid(json_line) ORDER BY name"
    ).fetchall()
    drop_rejects(connection)
    if not found:
        raise FileRejectedError("no line is a JSON object")
    _require_column_limit(len(found))
    is_json = "CASE WHEN json_valid(json_line) THEN json_line END"
    names = [name for (name,) in found if _is_column_name(name)]  # other fields remain in the line itself
    values = [f"{is_json} ->> {literal('$.' + quoted(name))} AS {quoted(name)}" for name in names]
    return f"SELECT {', '.join([*values, 'json_line'])} FROM {lines}"


def _is_column_name(name: str) -> bool:
    """Whether the name is valid in SQL and not reserved for the view and its columns."""
    return name != "" and not {"\0", '"'} & {*name} and name.lower() not in {"json_line", "landed"}


def drop_rejects(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop DuckDB's tables of the lines that the last read rejected."""
    connection.execute("DROP TABLE IF EXISTS reject_errors")
    connection.execute("DROP TABLE IF EXISTS reject_scans")
