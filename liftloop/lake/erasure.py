"""Erasure of a person: removes their rows from lake and quarantine, and a list keeps the rows out.

The list, `erasures/<source>.json`, holds hashes instead of values. Ingest drops the rows on the list, so landing a
file again does not bring them back. Landed files are the publisher's and stay unchanged: the list names the ones that
hold erased rows.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import duckdb

from liftloop.contract.contract import Contract
from liftloop.errors import UserError
from liftloop.lake.impressions import write_parquet
from liftloop.lake.lake import Lake
from liftloop.lake.landed import QUARANTINED_ROWS, object_id_in
from liftloop.lake.ledger import ingested
from liftloop.storage.duckdb import connect, literal, quoted
from liftloop.storage.frozen import Frozen
from liftloop.storage.hashing import sha256_of
from liftloop.storage.keys import QUARANTINE, erasures_key, known_keys_prefix, quarantine_prefix
from liftloop.storage.runs import Step, record
from liftloop.storage.store import ObjectRef, Store, references


class UnknownKeyError(UserError):
    """The source has no text column of this name."""


class Erasure(Frozen):
    """One erased value of a column: its hash, and the landed files in which it was found."""

    key: str
    sha256: str
    landed: tuple[str, ...] = ()


class Erasures(Frozen):
    """All erasures of one source."""

    erasures: tuple[Erasure, ...] = ()

    def predicate(self) -> str:
        """SQL predicate that is true for the rows to drop."""
        return " OR ".join(f"sha256({quoted(each.key)}) = {literal(each.sha256)}" for each in self.erasures) or "false"

    def including(self, new: Erasure) -> "Erasures":
        """These erasures and a new one, merged with an earlier one of the same value."""
        same = [each for each in self.erasures if (each.key, each.sha256) == (new.key, new.sha256)]
        landed = sorted({key for each in (*same, new) for key in each.landed})
        others = (each for each in self.erasures if each not in same)
        return Erasures(erasures=(*others, new.model_copy(update={"landed": tuple(landed)})))


def read_erasures(store: Store, source: str) -> Erasures:
    return _read(store, source)[0]


def erase(store: Store, contract: Contract, key: str, value: str) -> Erasure:
    """Remove the rows with this value, and drop them when they land again. Safe to repeat, such as after a crash.

    Files of the lake keep their names, even when they become empty, so ingest does not restore them.

    Raises:
        UnknownKeyError: the source has no text column of this name.
        SwapConflict: another erasure of this source is under way; repeat this one.
    """
    columns = {name: contract.column_types[name] for name in (*contract.columns, *contract.context)}
    if columns.get(key) != "VARCHAR":
        names = ", ".join(name for name, kind in columns.items() if kind == "VARCHAR")
        raise UnknownKeyError(f"{contract.source} has no text column {key!r}; it has {names}")
    lake = Lake(store, contract)
    with connect(store.settings) as connection:
        in_lake = f"{quoted(key)} = {literal(value)}"
        in_quarantine = rf"regexp_matches(raw, '(^|\W)' || regexp_escape({literal(value)}) || '(\W|$)')"
        files = _files_with(connection, store, [item.key for item in lake.files], in_lake)
        found = Erasure(key=key, sha256=sha256_of(value.encode()), landed=_landed_keys(lake, files))
        erasure = _write_to_list(store, contract.source, found)
        predicates = dict.fromkeys(files, in_lake)
        quarantine = [item.key for item in store.list(quarantine_prefix(contract.source))]
        quarantined = _files_with(connection, store, quarantine, in_quarantine)
        predicates |= dict.fromkeys(quarantined, in_quarantine)
        read = references(store, predicates)
        written = [_rewrite_without(connection, store, file, predicate) for file, predicate in predicates.items()]
    # The next ingest gathers the known keys again.
    store.delete([item.key for item in store.list(known_keys_prefix(contract.source))])
    record(Step(name="erase", inputs=tuple(read), outputs=tuple(written), metrics={"landed": erasure.landed}))
    return erasure


def _files_with(connection: duckdb.DuckDBPyConnection, store: Store, keys: list[str], predicate: str) -> list[str]:
    """The keys of the Parquet files that hold rows for which the predicate is true, sorted."""
    files = {store.uri(key): key for key in keys if _is_ours(key)}
    if not files:
        return []
    rows = connection.read_parquet(list(files), filename=True, union_by_name=True).filter(predicate)
    return sorted(files[uri] for (uri,) in rows.project("filename").distinct().fetchall())


def _is_ours(key: str) -> bool:
    """Whether the pipeline wrote this Parquet file; quarantine also holds copies of landed files."""
    return key.endswith(f"/{QUARANTINED_ROWS}") if key.startswith(QUARANTINE) else key.endswith(".parquet")


def _rewrite_without(connection: duckdb.DuckDBPyConnection, store: Store, key: str, predicate: str) -> ObjectRef:
    """Rewrite a file without the rows for which the predicate is true; the others stay in order."""
    with tempfile.TemporaryDirectory(prefix="liftloop-") as folder:
        path = Path(folder) / "rows.parquet"
        query = f"FROM read_parquet({literal(store.uri(key))}) WHERE ({predicate}) IS NOT TRUE"
        write_parquet(connection, query, path)
        return store.put(key, path.read_bytes())


def _landed_keys(lake: Lake, files: Iterable[str]) -> tuple[str, ...]:
    """The keys of the landed objects that these files of the lake come from, sorted."""
    wanted = {object_id_in(file) for file in files}
    return tuple(sorted(entry.landed.key for entry in ingested(lake) if entry.object_id in wanted))


def _write_to_list(store: Store, source: str, erasure: Erasure) -> Erasure:
    """Add an erasure to the list before any file is rewritten: from now on no ingest brings the rows back."""
    known, etag = _read(store, source)
    wanted = known.including(erasure)
    if wanted != known:
        store.swap(erasures_key(source), wanted.model_dump_json().encode(), expected_etag=etag)
    return wanted.erasures[-1]


def _read(store: Store, source: str) -> tuple[Erasures, str | None]:
    try:
        body, head = store.get_version(erasures_key(source))
    except KeyError:
        return Erasures(), None
    return Erasures.model_validate_json(body), head.etag
