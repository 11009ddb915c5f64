"""Ingest: each landed object exactly once, its good rows into the lake and its bad rows into quarantine."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from liftloop.contract.contract import Contract
from liftloop.contract.suite import load_suite
from liftloop.errors import UserError
from liftloop.lake.erasure import Erasures, read_erasures
from liftloop.lake.impressions import (
    freed_objects,
    mark_duplicates,
    stage_impressions,
    stage_quarantine,
    superseded_files,
)
from liftloop.lake.lake import Lake
from liftloop.lake.landed import Landed, landed_file_of, object_id_in
from liftloop.lake.ledger import Entry, blocked_ids, ids_of_these_bytes, ingest_step, pending, reopen, write_entry
from liftloop.landing.batch import Batch
from liftloop.landing.holding import counted, newest_event, row_counts
from liftloop.landing.outcomes import join_outcomes, list_outcomes, stage_outcomes, touched_objects
from liftloop.landing.parse import LandedFile, create_tables, delete_rows, parse
from liftloop.landing.rejection import FileRejectedError
from liftloop.landing.rules import Finding, compile_rules
from liftloop.storage.duckdb import connect, literal
from liftloop.storage.keys import impressions_prefix, landing_prefix, quarantine_prefix
from liftloop.storage.runs import record
from liftloop.storage.store import Listed, ObjectRef, concurrently

BATCH_BYTES = 64 * 1024 * 1024
BATCH_OBJECTS = 1000
_LONGEST_NAME_CHARACTERS = 60  # of a local file; at most four bytes each, and file systems allow 255 bytes


class LookupMissingError(UserError):
    """A reference file that the contract joins has not landed; the impressions wait in landing until it lands."""


@dataclass(frozen=True)
class BatchResult:
    """The outcome of one batch of landed objects. `findings` are the suite's results over all readable rows."""

    entries: list[Entry]
    findings: list[Finding]


def pending_batches(
    lake: Lake, batch_bytes: int = BATCH_BYTES, batch_objects: int = BATCH_OBJECTS
) -> Iterator[list[Listed]]:
    """The objects that wait in landing, in batches of one kind and bounded size; a larger object is a batch.

    An object whose reference files have not all landed keeps waiting.
    """
    batch: list[Listed] = []
    size_bytes = 0
    landed = Landed.read(lake.store, lake.contract)
    for item in pending(lake, landed):
        if landed.missing_references(item):
            continue
        size_bytes += item.size_bytes
        is_of_kind = not batch or landed.outcome_files_of(item.key) == landed.outcome_files_of(batch[0].key)
        if batch and (size_bytes > batch_bytes or len(batch) == batch_objects or not is_of_kind):
            yield batch
            batch, size_bytes = [], item.size_bytes
        batch.append(item)
    if batch:
        yield batch


def require_lookups(lake: Lake) -> None:
    """Require that every reference file that landed objects need has landed.

    Raises:
        LookupMissingError: some have not; the message names them.
    """
    if not lake.contract.lookups:
        return
    landed = Landed.read(lake.store, lake.contract)
    if missing := sorted({key for item in pending(lake, landed) for key in landed.missing_references(item)}):
        raise LookupMissingError(
            f"land {', '.join(map(lake.store.uri, missing))} first: landed files are joined with this data"
        )


def ingest_batch(lake: Lake, items: list[Listed]) -> BatchResult:
    """Read, judge and write a batch. Safe to repeat: every output's key follows from the landed object.

    Raises:
        LookupMissingError: a reference file has not landed yet.
    """
    landed = Landed.read(lake.store, lake.contract)
    kind = landed.outcome_files_of(items[0].key)
    contract = lake.contract.for_outcomes(kind) if kind else lake.contract
    suite = load_suite(contract)
    with tempfile.TemporaryDirectory(prefix="liftloop-") as name:
        folder = Path(name)
        with connect(lake.store.settings) as connection:
            connection.execute(f"SET temp_directory = {literal(folder / 'spilled')}")  # of what exceeds the memory
            rules = compile_rules(suite)
            erasures = Erasures() if kind else read_erasures(lake.store, lake.contract.source)  # of people
            batch = Batch(lake, landed, contract, suite, rules, erasures, connection, folder)
            entries = _stage_batch(batch, items)
            from liftloop.landing.validation import validate  # noqa: PLC0415  (Great Expectations: seconds to import)

            findings = validate(connection, "impressions", suite)
        blocked = blocked_ids(lake, landed)
        before = [item.key for item in (list_outcomes(lake.store, contract.source) if kind else lake.files)]
        written = concurrently(lambda entry: _upload(batch, entry, before, entry.object_id in blocked), entries)
    record(*map(ingest_step, written))
    return BatchResult(written, findings)


def _stage_batch(batch: Batch, items: list[Listed]) -> list[Entry]:
    """Determine every object's status and stage its files."""
    create_tables(batch.connection, batch.contract)
    read = [_read(batch, item, landed) for item, landed in zip(items, _fetch(batch, items), strict=True)]
    outcomes = join_outcomes(batch) if batch.contract.outcome_files else {}
    entries = [
        counted(batch, entry.model_copy(update={"outcomes": outcomes.get(entry.object_id, ())})) for entry in read
    ]
    ingested = [entry.object_id for entry in entries if entry.status == "ingested"]
    if batch.contract.is_of_outcomes:
        reopen(batch.store, batch.contract.source, touched_objects(batch, [entry.object_id for entry in entries]))
    elif ingested:
        mark_duplicates(batch.connection, batch.lake, batch.landed, ingested)
        reopen(batch.store, batch.contract.source, freed_objects(batch.connection, batch.lake, ingested))
        _reopen_later(batch)
    return [_stage(batch, entry) for entry in entries]


def _reopen_later(batch: Batch) -> None:
    """Delete the lake files of later objects that share keys with this batch: the earlier row wins, so re-read them."""
    later = superseded_files(batch.connection, batch.lake)
    batch.store.delete(later)
    batch.lake.replace(later, ())


def _fetch(batch: Batch, items: list[Listed]) -> list[ObjectRef]:
    """Download the objects, each to a folder of its own."""
    paths = [_local(batch, batch.landed.object_id(item), item.key) for item in items]
    for path in paths:
        path.parent.mkdir()
    return concurrently(lambda pair: batch.store.download(pair[0].key, pair[1]), zip(items, paths, strict=True))


def _local(batch: Batch, object_id: str, key: str) -> Path:
    return batch.folder / object_id / key.rsplit("/", 1)[1][-_LONGEST_NAME_CHARACTERS:]


def _read(batch: Batch, item: Listed, landed: ObjectRef) -> Entry:
    object_id = batch.landed.object_id(item)
    entry = Entry(object_id=object_id, landed=landed, landed_at=item.modified, status="ingested")
    path = _local(batch, entry.object_id, item.key)
    try:
        relative = item.key.removeprefix(landing_prefix(batch.contract.source))
        parts = _path_parts(batch.contract, relative)
        keys = batch.landed.reference_keys(item.key)
        lookups = {name: _fetch_lookup(batch, name, key, path.parent) for name, key in keys.items()}
        entry = entry.model_copy(update={"lookups": tuple(lookups.values())})
        files = {name: path.parent / name / Path(ref.key).name for name, ref in lookups.items()}
        limit = batch.store.settings.max_expanded_bytes
        file = LandedFile(entry.object_id, relative, path, parts, files, limit)
        left_out = parse(batch.connection, batch.contract, file, [] if batch.contract.outcome_files else batch.rules)
        erased = delete_rows(batch.connection, entry.object_id, batch.erasures.predicate())
        return entry.model_copy(update={"rows_left_out": left_out, "rows_erased": erased})
    except FileRejectedError as error:
        return entry.model_copy(update={"status": "rejected", "error": str(error)})


def _path_parts(contract: Contract, relative: str) -> dict[str, str]:
    parts = contract.landing.path_parts(relative)
    if parts is None:
        raise FileRejectedError(f"{relative!r} does not match the contract's landing path {contract.landing.path!r}")
    return parts


def _fetch_lookup(batch: Batch, name: str, key: str, folder: Path) -> ObjectRef:
    path = folder / name / Path(key).name
    path.parent.mkdir()
    try:
        return batch.store.download(key, path)
    except KeyError:
        raise LookupMissingError(f"land {batch.store.uri(key)} first: the contract joins it as {name}") from None


def _stage(batch: Batch, entry: Entry) -> Entry:
    """Write the object's files to local disk by its status, and count the duplicates among its rows."""
    folder = batch.folder / "out" / entry.object_id
    folder.mkdir(parents=True)
    if entry.status == "ingested":
        if batch.contract.is_of_outcomes:
            stage_outcomes(batch, entry.object_id)
        else:
            stage_impressions(batch.connection, batch.contract, entry.object_id, folder)
        good, _ = row_counts(batch, entry.object_id)
        counts = {"rows_valid": good, "rows_duplicate": entry.rows_valid - good}
        entry = entry.model_copy(update=counts | {"newest_event": newest_event(batch, entry.object_id)})
    else:
        _stage_whole(batch, entry, folder / quarantine_prefix(batch.contract.source) / entry.object_id)
    stage_quarantine(batch.connection, batch.contract, entry.object_id, folder)
    return entry


def _stage_whole(batch: Batch, entry: Entry, folder: Path) -> None:
    """Write a copy of the landed file, and the error, to a local folder."""
    folder.mkdir(parents=True)
    landed = _local(batch, entry.object_id, entry.landed.key)
    (folder / landed.name).write_bytes(landed.read_bytes())
    error = {"landed": entry.landed.key, "status": entry.status, "error": entry.error, "reasons": entry.reasons}
    (folder / "error.json").write_text(json.dumps(error, indent=1), encoding="utf-8")


def _upload(batch: Batch, entry: Entry, before: list[str], is_held: bool) -> Entry:
    """Copy the staged files to the store, delete the files they replace, then write the ledger entry: in this order.

    `before`: the keys of the lake before this batch; an ingested file replaces its earlier versions.
    """
    folder = batch.folder / "out" / entry.object_id
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    put = concurrently(lambda path: batch.store.put_version(str(path.relative_to(folder)), path.read_bytes()), files)
    written = {ref.key: Listed(ref.key, etag, ref.size_bytes, datetime.now(UTC)) for ref, etag in put}
    former = ids_of_these_bytes(batch.store, batch.contract.source, entry) if entry.status != "ingested" else set()
    replaced = [key for key in before if key not in written and _is_replaced(key, entry, former)]
    batch.store.delete(replaced)
    prefix = impressions_prefix(batch.contract.source)
    batch.lake.replace(replaced, (item for key, item in written.items() if key.startswith(prefix)))
    written_entry = entry.model_copy(update={"outputs": tuple(ref for ref, _ in put)})
    write_entry(batch.store, batch.contract.source, written_entry, is_held=is_held)
    return written_entry


def _is_replaced(key: str, entry: Entry, former: set[str]) -> bool:
    """Whether a file of the lake is of an earlier version of this landed file, or left by an interrupted run.

    If a corrected file is held, the rows of its earlier version stay; if the same bytes are re-read and held, they go.
    """
    object_id = object_id_in(key)
    if entry.status != "ingested":
        return object_id == entry.object_id or object_id in former
    return landed_file_of(object_id) == landed_file_of(entry.object_id)
