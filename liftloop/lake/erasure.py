"""A person's wish to be forgotten: their rows leave lake and quarantine, and a list keeps them out.

The list, `erasures/<source>.json`, bears hashes and no values. Ingest drops the rows that it names, so a file that is
landed again does not bring them back. Landed files are the publisher's and stay as they are: the list says which of
them hold such rows.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import duckdb

from liftloop.contract.contract import Contract
from liftloop.errors import UserError
from liftloop.lake.impressions import object_id_in, write_parquet
from liftloop.lake.lake import Lake
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
    """Rows with a value in a column: the value's hash, and the landed files in which they were found."""

    key: str
    sha256: str
    landed: tuple[str, ...] = ()


class Erasures(Frozen):
    """All that was asked for of one source."""

    erasures: tuple[Erasure, ...] = ()

    def predicate(self) -> str:
        """SQL that is true for the rows to drop."""
        return " OR ".join(f"sha256({quoted(each.key)}) = {literal(each.sha256)}" for each in self.erasures) or "false"

    def including(self, new: Erasure) -> "Erasures":
        """With this one, which adds to what was known of the same value."""
        same = [each for each in self.erasures if (each.key, each.sha256) == (new.key, new.sha256)]
        landed = sorted({key for each in (*same, new) for key in each.landed})
        others = (each for each in self.erasures if each not in same)
        return Erasures(erasures=(*others, new.model_copy(update={"landed": tuple(landed)})))


def read_erasures(store: Store, source: str) -> Erasures:
    return _read(store, source)[0]


def erase(store: Store, contract: Contract, key: str, value: str) -> Erasure:
    """Forget the rows with this value, now and when they land again. Safe to repeat, as after a crash.

    The files of the lake keep their names, an empty one too: so ingest does not restore them.

    Raises:
        UnknownKeyError: the source has no such column.
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
        found = Erasure(key=key, sha256=sha256_of(value.encode()), landed=_landed(lake, files))
        erasure = _listed(store, contract.source, found)
        held = dict.fromkeys(files, in_lake)
        quarantine = [item.key for item in store.list(quarantine_prefix(contract.source))]
        quarantined = _files_with(connection, store, quarantine, in_quarantine)
        held |= dict.fromkeys(quarantined, in_quarantine)
        read = references(store, held)
        written = [_without(connection, store, file, predicate) for file, predicate in held.items()]
    store.delete([item.key for item in store.list(known_keys_prefix(contract.source))])  # gathered anew when needed
    record(Step(name="erase", inputs=tuple(read), outputs=tuple(written), metrics={"landed": erasure.landed}))
    return erasure


def _files_with(connection: duckdb.DuckDBPyConnection, store: Store, keys: list[str], held: str) -> list[str]:
    """The keys of the Parquet files that hold such rows."""
    files = {store.uri(key): key for key in keys if _is_ours(key)}
    if not files:
        return []
    rows = connection.read_parquet(list(files), filename=True, union_by_name=True).filter(held)
    return sorted(files[uri] for (uri,) in rows.project("filename").distinct().fetchall())


def _is_ours(key: str) -> bool:
    """Whether the pipeline wrote this file; quarantine also holds copies of landed ones."""
    return key.endswith("/rows.parquet") if key.startswith(QUARANTINE) else key.endswith(".parquet")


def _without(connection: duckdb.DuckDBPyConnection, store: Store, key: str, held: str) -> ObjectRef:
    """Write the file again without such rows, the others in their order."""
    with tempfile.TemporaryDirectory(prefix="liftloop-") as folder:
        path = Path(folder) / "rows.parquet"
        write_parquet(connection, f"FROM read_parquet({literal(store.uri(key))}) WHERE ({held}) IS NOT TRUE", path)
        return store.put(key, path.read_bytes())


def _landed(lake: Lake, files: Iterable[str]) -> tuple[str, ...]:
    """The landed objects that these files of the lake come from."""
    wanted = {object_id_in(file) for file in files}
    return tuple(sorted(entry.landed.key for entry in ingested(lake) if entry.object_id in wanted))


def _listed(store: Store, source: str, erasure: Erasure) -> Erasure:
    """Put on the list, before anything is rewritten: from now on no ingest brings the rows back."""
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
