"""Reference files: views of them, and their join to the landed rows."""

from pathlib import Path

import duckdb

from liftloop.contract.contract import Contract
from liftloop.contract.files import Lookup
from liftloop.landing.readers import create_view, drop_rejects
from liftloop.landing.rejection import FileRejectedError
from liftloop.landing.values import Landed, identifier
from liftloop.storage.duckdb import quoted


def open_lookup(
    connection: duckdb.DuckDBPyConnection, name: str, lookup: Lookup, path: Path, limit: int, folder: Path
) -> None:
    """Create a view of a reference file.

    Raises:
        FileRejectedError: a key is not exact or appears twice, its column is missing, or a line cannot be read.
    """
    view = view_of(name)
    frames = create_view(connection, view, path, lookup, limit, folder)
    kinds = kinds_of(connection, view)
    if missing := sorted({*lookup.match.values()} - {*kinds}):
        raise FileRejectedError(f"columns {missing} of {name} are missing; it has {sorted(kinds)}")
    names = list(lookup.match.values())
    keys = ", ".join(identifier(quoted(column), kinds[column]) for column in names)
    written = ", ".join(quoted(column) for column in names)
    rows, twice, inexact = connection.execute(f"""
        SELECT coalesce(sum(times), 0), min(key::VARCHAR) FILTER (times > 1 AND list_count(key) = {len(names)}),
            min(written::VARCHAR) FILTER (list_count(key) < list_count(written))
        FROM (SELECT [{keys}] AS key, any_value([{written}]::VARCHAR[]) AS written, count(*) AS times
              FROM {quoted(view)} GROUP BY key)
    """).fetchall()[0]
    drop_rejects(connection)
    if inexact:
        raise FileRejectedError(f"{name} has {names} = {inexact}, which is not exact: write it in full")
    if twice:
        raise FileRejectedError(f"{name} has {names} = {twice} more than once")
    if frames and (frames.unreadable or rows != frames.count):
        raise FileRejectedError(f"{name} has lines that cannot be read: correct the reference file and land it again")


def view_of(lookup: str) -> str:
    """With a blank, which the names of our tables lack."""
    return f"lookup {lookup}"


def joins(contract: Contract, available: dict[str, Landed]) -> str:
    """Keys are compared as text, so that no cast makes `007` equal to 7."""
    found = []
    for name, lookup in contract.lookups.items():
        pairs = [(available[own], available[f"{name}.{other}"]) for own, other in lookup.match.items()]
        keys = [" = ".join(identifier(side.sql, side.kind) for side in pair) for pair in pairs]
        found.append(f"LEFT JOIN {quoted(view_of(name))} ON {' AND '.join(keys)}")
    return " ".join(found)


def kinds_of(connection: duckdb.DuckDBPyConnection, view: str) -> dict[str, str]:
    """The DuckDB types of a view's columns."""
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE {quoted(view)}").fetchall()}
