"""Readers: a landed file as a view of its rows, within limits that a broken or hostile file cannot exceed."""

import bz2
import codecs
import csv
import gzip
import zipfile
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from liftloop.contract.files import FileLayout, repeated_in
from liftloop.landing.framing import Frames, frame
from liftloop.landing.rejection import FileRejectedError
from liftloop.storage.duckdb import literal, quoted

_MOST_COLUMNS = 2_000  # DuckDB's run time is quadratic in the columns
_COPY_BYTES = 2**20
_NO_SEPARATOR = "\\0"  # as DuckDB spells it: a line is one value
_NEW_LINE = "\\n"  # not guessed: the first record may have a CR within quotes
_LONGEST_MAGIC_BYTES = 10


def create_view(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    path: Path,
    layout: FileLayout,
    limit: int,
    folder: Path,
    wanted: Collection[str] = (),
) -> Frames | None:
    """Create a view of a file's rows; returns the records of a text file.

    Args:
        limit: the most bytes that it may unpack to.
        folder: an empty one, for the files that the view reads; it must stay until the view has been read.
        wanted: names of JSON fields as the contract spells them; those that differ from it in case alone are the same.

    Raises:
        FileRejectedError: the file is empty, has too many columns, unpacks to more bytes, or is not of this kind.
        UnicodeError: it is not in the layout's encoding.
    """
    plain = _unpacked(path, folder / "unpacked", limit)
    if plain.stat().st_size == 0:
        raise FileRejectedError("the file is empty")
    if layout.format == "parquet":
        rows, frames = _parquet_rows(connection, plain, limit), None
    else:
        frames = frame(_in_utf8(plain, layout.encoding, folder / "utf-8"), layout, folder)
        is_json = layout.format == "jsonl"
        rows = _json_rows(connection, frames, layout, wanted) if is_json else _delimited_rows(frames, layout)
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {quoted(name)} AS {rows}")
    return frames


def _unpacked(path: Path, target: Path, limit: int) -> Path:
    """The file itself, or what it holds if its first bytes are those of a compressed file; names do not matter."""
    with path.open("rb") as landed:
        magic = landed.read(_LONGEST_MAGIC_BYTES)
    opener = next((opener for start, opener in _OPENERS.items() if magic.startswith(start)), None)
    if opener is None:
        return path
    with opener(path) as packed, target.open("wb") as plain:
        while piece := packed.read(_COPY_BYTES):
            plain.write(piece)
            require_size_limit(plain.tell(), limit)
    return target


def _in_utf8(path: Path, encoding: str, target: Path) -> Path:
    """The file itself, or a copy in UTF-8."""
    if encoding == "utf-8":
        return path
    with path.open("rb") as landed:
        has_mark = landed.read(2) in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}
    if encoding == "utf-16" and not has_mark:
        raise FileRejectedError("it has no byte order mark: set landing.encoding to utf-16-le or utf-16-be")
    with (
        path.open(encoding=encoding, newline="") as landed_text,
        target.open("w", encoding="utf-8", newline="") as text,
    ):
        while piece := landed_text.read(_COPY_BYTES):
            text.write(piece)
    return target


def _open_zip(path: Path) -> IO[bytes]:
    try:
        archive = zipfile.ZipFile(path)
        files = [item for item in archive.infolist() if not item.is_dir()]
        if len(files) != 1:
            raise FileRejectedError(f"the archive holds {len(files)} files: land each by itself")
        return archive.open(files[0])
    except RuntimeError as error:  # encrypted, or of a version or method that is not supported
        raise FileRejectedError(f"the archive cannot be opened: {error}") from None


_OPENERS: dict[bytes, Callable[[Path], AbstractContextManager[Any]]] = {
    b"\x1f\x8b": gzip.open,
    b"\x28\xb5\x2f\xfd": lambda path: pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"),
    **{f"BZh{level}1AY&SY".encode(): bz2.open for level in range(1, 10)},
    b"PK\x03\x04": _open_zip,
}


def _parquet_rows(connection: duckdb.DuckDBPyConnection, path: Path, limit: int) -> str:
    require_size_limit(_parquet_bytes(connection, path), limit)
    _require_unique_names(pq.read_schema(path).names)
    return f"SELECT * FROM read_parquet({literal(path)})"


def _parquet_bytes(connection: duckdb.DuckDBPyConnection, path: Path) -> int:
    """Bytes of its values when unpacked: at least one each, because a run of one value is stored as two bytes."""
    unpacked = "greatest(sum(total_uncompressed_size), sum(num_values))"
    row = connection.execute(f"SELECT {unpacked} FROM parquet_metadata({literal(path)})").fetchone()
    return (row and row[0]) or 0


def require_size_limit(size_bytes: int, limit: int) -> None:
    """Require that a file, once unpacked, is within the limit.

    Raises:
        FileRejectedError: it is not.
    """
    if size_bytes > limit:
        raise FileRejectedError(
            f"it unpacks to more than {limit:,} bytes (LIFTLOOP_MAX_EXPANDED_BYTES): land it in parts"
        )


def _delimited_rows(frames: Frames, layout: FileLayout) -> str:
    """Types are not guessed, which fails or misleads when the first rows are broken."""
    names = _column_names(frames, layout)
    _require_column_limit(len(names))
    _require_unique_names(names)
    return f"SELECT * FROM {_read_records(frames, names, layout)}"


def _column_names(frames: Frames, layout: FileLayout) -> list[str]:
    if isinstance(layout.header, tuple):
        return list(layout.header)
    if not layout.has_header:
        with frames.path.open(encoding="utf-8", newline="") as records:
            places = [str(place) for place, _ in enumerate(next(csv.reader(records, **layout.dialect), []), 1)]
        if not places:
            raise FileRejectedError("no line is a record")
        return places
    header = frames.names or []
    if any(character < " " or "\udc80" <= character <= "\udcff" for name in header for character in name):
        raise FileRejectedError(f"the header is not {layout.encoding}: set landing.encoding in the contract")
    if not any(header):
        raise FileRejectedError("the first line is blank; it must name the columns")
    return [name or f"column_{place}" for place, name in enumerate(header)]


def _read_records(frames: Frames, names: Sequence[str], layout: FileLayout) -> str:
    """The rejected records are in DuckDB's table `reject_errors` after the read."""
    quote = literal(layout.quote_character or "")
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    return (
        f"read_csv({literal(frames.path)}, columns = {{{columns}}}, auto_detect = false, header = false,"
        f" delim = {literal(layout.separator or _NO_SEPARATOR)}, quote = {quote}, escape = {quote},"
        f" new_line = {literal(_NEW_LINE)}, store_rejects = true)"
    )


def _require_column_limit(columns: int) -> None:
    if columns > _MOST_COLUMNS:
        raise FileRejectedError(f"it has {columns:,} columns; at most {_MOST_COLUMNS:,} can be read")


def _require_unique_names(names: Sequence[str]) -> None:
    if repeated := sorted(repeated_in(names)):
        raise FileRejectedError(f"the header names {repeated} twice")


def _json_rows(
    connection: duckdb.DuckDBPyConnection, frames: Frames, layout: FileLayout, wanted: Collection[str]
) -> str:
    """Reads each line as text first, so that a broken line costs one row instead of the file.

    SQL does not tell names apart that differ in case alone: they are one column, with the value of the contract's
    spelling, else of the most frequent one that the line has.
    """
    lines = _read_records(frames, ["json_line"], layout)
    keys = f"SELECT unnest(json_keys(json_line)) AS name FROM {lines} WHERE json_valid(json_line)"
    is_wanted = f"list_contains({[*wanted]}::VARCHAR[], name)"
    spellings = f"list(name ORDER BY {is_wanted} DESC, times DESC, name)"
    found = connection.execute(
        f"SELECT {spellings} FROM (SELECT name, count(*) AS times FROM ({keys}) GROUP BY name) GROUP BY lower(name)"
        " ORDER BY lower(name)"
    ).fetchall()
    drop_rejects(connection)
    if not found:
        raise FileRejectedError("no line is a JSON object")
    _require_column_limit(len(found))
    is_json = "CASE WHEN json_valid(json_line) THEN json_line END"
    columns = [names for (names,) in found if _is_column_name(names[0])]  # other fields remain in the line itself
    values = [f"{_first_of(is_json, names)} AS {quoted(names[0])}" for names in columns]
    return f"SELECT {', '.join([*values, 'json_line'])} FROM {lines}"


def _first_of(line: str, names: list[str]) -> str:
    """The value of the first of these fields that the line has."""
    fields = [f"{line} ->> {literal('$.' + quoted(name))}" for name in names if _is_column_name(name)]
    return f"coalesce({', '.join(f'({field})' for field in fields)})" if len(fields) > 1 else fields[0]


def _is_column_name(name: str) -> bool:
    """Whether the name is valid in SQL and not reserved for the view and its columns."""
    return name != "" and not {"\0", '"'} & {*name} and name.lower() not in {"json_line", "landed"}


def drop_rejects(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop DuckDB's tables of the lines that the last read rejected."""
    connection.execute("DROP TABLE IF EXISTS reject_errors")
    connection.execute("DROP TABLE IF EXISTS reject_scans")
