"""Whatever the bytes, a file is refused as a whole, or each of its lines is in a row, left out, or in `unread`."""

import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from lib.hostile_files import Case, cases

from liftloop.contract.files import FileLayout
from liftloop.contract.suite import load_suite
from liftloop.landing import readers
from liftloop.landing.framing import Frames, frame
from liftloop.landing.parse import LandedFile, create_tables, parse
from liftloop.landing.rejection import FileRejectedError
from liftloop.landing.rules import compile_rules

RULES = compile_rules(load_suite())
LIMIT_BYTES = 2**20
NOT_FOR_READERS = re.compile(r"Traceback|LINE \d|Possible|SELECT|read_csv|INTERNAL|/tmp|\n")


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_no_byte_is_lost(kind: str) -> None:
    settings(max_examples=60, derandomize=True)(given(cases(kind))(require_accounted))()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_no_byte_of_many_files_is_lost(kind: str) -> None:
    settings(max_examples=500)(given(cases(kind))(require_accounted))()


@contextmanager
def empty_database() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database of its own in one DuckDB for all files: to start another takes longer than to read such a file."""
    database = shared_duckdb()
    database.execute("ATTACH ':memory:' AS landed")
    try:
        with database.cursor() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("USE landed")
            yield connection
    finally:
        database.execute("DETACH landed")


@cache
def shared_duckdb() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def require_accounted(case: Case) -> None:
    with tempfile.TemporaryDirectory() as name, empty_database() as connection:
        path = Path(name) / "log"
        path.write_bytes(case.body)
        create_tables(connection, case.contract)
        file = LandedFile("o1", "log", path, {"day": "d"}, {}, LIMIT_BYTES)
        try:
            left_out = parse(connection, case.contract, file, RULES)
        except FileRejectedError as error:
            require_refused(connection, str(error))
        else:
            require_same_rows(connection, case, path, left_out)


def require_refused(connection: duckdb.DuckDBPyConnection, message: str) -> None:
    assert message
    assert not NOT_FOR_READERS.search(message)
    assert rows_of(connection) == (0, 0, 0)


def rows_of(connection: duckdb.DuckDBPyConnection) -> tuple[int, ...]:
    """Rows, records among them, and unread lines."""
    counts = "(SELECT count(*) FROM impressions), (SELECT count(DISTINCT record) FROM impressions)"
    return tuple(connection.execute(f"SELECT {counts}, (SELECT count(*) FROM unread)").fetchall()[0])


def require_same_rows(connection: duckdb.DuckDBPyConnection, case: Case, path: Path, left_out: int) -> None:
    layout = case.contract.landing
    rows, records, unread = rows_of(connection)
    plain = readers._unpacked(path, path.with_name("unpacked"), LIMIT_BYTES)
    if layout.format == "parquet":
        landed = pq.read_metadata(plain).num_rows
    else:
        text = readers._in_utf8(plain, layout.encoding, path.with_name("utf-8"))
        frames = frame(text, layout, path.parent)
        landed = frames.count + len(frames.unreadable)
        require_same_lines(connection, plain, frames, layout)
    if layout.explode is None:
        assert landed == rows + left_out + unread
    elif case.contract.keep is None:
        assert landed == records + unread


def require_same_lines(connection: duckdb.DuckDBPyConnection, plain: Path, frames: Frames, layout: FileLayout) -> None:
    """Each line that is neither skipped nor blank is in a record or unreadable, once."""
    text = plain.read_bytes().decode(layout.encoding, "backslashreplace").removeprefix("\ufeff")
    for (raw,) in connection.execute("SELECT raw FROM unread").fetchall():
        assert with_plain_ends(raw) in with_plain_ends(text)
    found = lines_of(frames.path.read_bytes().decode(), layout)
    for each in frames.unreadable:
        found += lines_of(each.raw, layout)
    landed = lines_of(text, layout)
    header = 1 + sum(len(re.findall(r"\r\n?|\n", name)) for name in frames.names or [])
    skipped = layout.skip_rows + layout.footer + layout.has_header * header
    assert not found - landed
    assert (landed - found).total() <= skipped


def with_plain_ends(text: str) -> str:
    return re.sub(r"\r\n?", "\n", text)


def lines_of(text: str, layout: FileLayout) -> Counter[str]:
    lines = [line for line in with_plain_ends(text).split("\n") if line]
    return Counter(line for line in lines if layout.comment is None or not line.startswith(layout.comment))
