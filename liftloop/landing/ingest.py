"""Ingest: each landed object exactly once, its good rows into the lake and its bad rows into quarantine."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from liftloop.contract.contract import Contract
from liftloop.contract.suite import Suite, is_row_level, load_suite, on_failure
from liftloop.errors import UserError
from liftloop.lake.erasure import Erasures, read_erasures
from liftloop.lake.impressions import (
    mark_duplicates,
    stage_impressions,
    stage_quarantine,
    superseded_files,
)
from liftloop.lake.lake import Lake
from liftloop.lake.landed import Landed, landed_file_of, object_id_in
from liftloop.lake.ledger import Entry, blocked_ids, ids_of_these_bytes, ingest_step, pending, write_entry
from liftloop.landing.parse import LandedFile, create_tables, delete_rows, parse
from liftloop.landing.rejection import FileRejectedError
from liftloop.landing.rules import Finding, Rule, compile_rules
from liftloop.storage.duckdb import connect, literal, quoted
from liftloop.storage.keys import impressions_prefix, landing_prefix, quarantine_prefix
from liftloop.storage.runs import record
from liftloop.storage.store import Listed, ObjectRef, Store, concurrently

BATCH_BYTES = 256 * 1024 * 1024
BATCH_OBJECTS = 1000
_FEWEST_DUPLICATES = 10  # fewer hold no file, whatever their share
_LONGEST_NAME_CHARACTERS = 60  # of a local file; at most four bytes each, and file systems allow 255 bytes


class LookupMissingError(UserError):
    """A reference file that the contract joins has not landed; the impressions wait in landing until it lands."""


@dataclass(frozen=True)
class BatchResult:
    """The outcome of one batch of landed objects. `findings` are the suite's results over all readable rows."""

    entries: list[Entry]
    findings: list[Finding]


@dataclass(frozen=True)
class _Work:
    """What every step of one batch needs; the folder is temporary."""

    lake: Lake
    landed: Landed
    suite: Suite
    rules: list[Rule]
    erasures: Erasures
    connection: duckdb.DuckDBPyConnection
    folder: Path

    @property
    def store(self) -> Store:
        return self.lake.store

    @property
    def contract(self) -> Contract:
        return self.lake.contract


def pending_batches(
    lake: Lake, batch_bytes: int = BATCH_BYTES, batch_objects: int = BATCH_OBJECTS
) -> Iterator[list[Listed]]:
    """The objects that wait in landing, oldest first, in batches of bounded size; a larger object is a batch.

    An object whose reference files have not all landed keeps waiting.
    """
    batch: list[Listed] = []
    size_bytes = 0
    landed = Landed.read(lake.store, lake.contract)
    for item in pending(lake, landed):
        if landed.missing_references(item):
            continue
        size_bytes += item.size_bytes
        if batch and (size_bytes > batch_bytes or len(batch) == batch_objects):
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
    suite, landed = load_suite(lake.contract), Landed.read(lake.store, lake.contract)
    with tempfile.TemporaryDirectory(prefix="liftloop-") as name:
        folder = Path(name)
        with connect(lake.store.settings, folder / "batch.duckdb") as connection:
            connection.execute("SET wal_autocheckpoint = '1TB'")  # the file lives for one batch: no checkpoints
            rules, erasures = compile_rules(suite), read_erasures(lake.store, lake.contract.source)
            work = _Work(lake, landed, suite, rules, erasures, connection, folder)
            entries = _stage_batch(work, items)
            from liftloop.landing.validation import validate  # noqa: PLC0415  (Great Expectations: seconds to import)

            findings = validate(connection, "impressions", suite)
        blocked = blocked_ids(lake, landed)
        before = [item.key for item in lake.files]
        written = concurrently(lambda entry: _upload(work, entry, before, entry.object_id in blocked), entries)
    record(*map(ingest_step, written))
    return BatchResult(written, findings)


def _stage_batch(work: _Work, items: list[Listed]) -> list[Entry]:
    """Determine every object's status and stage its files."""
    create_tables(work.connection, work.contract)
    entries = [_read(work, item, landed) for item, landed in zip(items, _fetch(work, items), strict=True)]
    ingested = [entry.object_id for entry in entries if entry.status == "ingested"]
    if ingested:
        mark_duplicates(work.connection, work.lake, work.landed, ingested)
        _reopen(work)
    return [_stage(work, entry) for entry in entries]


def _reopen(work: _Work) -> None:
    """Delete the lake files of later objects that share keys with this batch: the earlier row wins, so re-read them."""
    later = superseded_files(work.connection, work.lake)
    work.store.delete(later)
    work.lake.replace(later, ())


def _fetch(work: _Work, items: list[Listed]) -> list[ObjectRef]:
    """Download the objects, each to a folder of its own."""
    paths = [_local(work, work.landed.object_id(item), item.key) for item in items]
    for path in paths:
        path.parent.mkdir()
    return concurrently(lambda pair: work.store.download(pair[0].key, pair[1]), zip(items, paths, strict=True))


def _local(work: _Work, object_id: str, key: str) -> Path:
    return work.folder / object_id / key.rsplit("/", 1)[1][-_LONGEST_NAME_CHARACTERS:]


def _read(work: _Work, item: Listed, landed: ObjectRef) -> Entry:
    entry = Entry(object_id=work.landed.object_id(item), landed=landed, status="ingested")
    path = _local(work, entry.object_id, item.key)
    try:
        relative = item.key.removeprefix(landing_prefix(work.contract.source))
        parts = _path_parts(work.contract, relative)
        keys = work.landed.reference_keys(item.key)
        lookups = {name: _fetch_lookup(work, name, key, path.parent) for name, key in keys.items()}
        entry = entry.model_copy(update={"lookups": tuple(lookups.values())})
        files = {name: path.parent / name / Path(ref.key).name for name, ref in lookups.items()}
        limit = work.store.settings.max_expanded_bytes
        file = LandedFile(entry.object_id, relative, path, parts, files, limit)
        left_out = parse(work.connection, work.contract, file, work.rules)
        erased = delete_rows(work.connection, entry.object_id, work.erasures.predicate())
        entry = _counted(work, entry, left_out, erased)
    except FileRejectedError as error:
        entry = entry.model_copy(update={"status": "rejected", "error": str(error)})
    return entry


def _path_parts(contract: Contract, relative: str) -> dict[str, str]:
    parts = contract.landing.path_parts(relative)
    if parts is None:
        raise FileRejectedError(f"{relative!r} does not match the contract's landing path {contract.landing.path!r}")
    return parts


def _fetch_lookup(work: _Work, name: str, key: str, folder: Path) -> ObjectRef:
    path = folder / name / Path(key).name
    path.parent.mkdir()
    try:
        return work.store.download(key, path)
    except KeyError:
        raise LookupMissingError(f"land {work.store.uri(key)} first: the contract joins it as {name}") from None


def _counted(work: _Work, entry: Entry, left_out: int, erased: int) -> Entry:
    """The entry with its row counts; its status is `held` if too many rows are bad."""
    reasons = dict(
        work.connection.execute(
            """
            SELECT reason, count(*) FROM (
                SELECT unnest(reasons) AS reason FROM impressions WHERE object_id = $1
                UNION ALL SELECT reason FROM unread WHERE object_id = $1
            ) GROUP BY reason ORDER BY reason
            """,
            [entry.object_id],
        ).fetchall()
    )
    good, bad = _row_counts(work, entry.object_id)
    landed = good + bad + left_out + erased
    if landed == 0:
        raise FileRejectedError("the file has a header and no rows")
    apart = {"rows_quarantined": bad, "rows_left_out": left_out, "rows_erased": erased}
    counts = {"rows_landed": landed, "rows_valid": good, **apart, "reasons": reasons}
    if error := _why_held(work, entry.object_id, reasons, good, bad):
        counts |= {"status": "held", "error": error, "rows_valid": 0, "rows_quarantined": good + bad}
    return entry.model_copy(update=counts)


def _why_held(work: _Work, object_id: str, reasons: dict[str, int], good: int, bad: int) -> str | None:
    """Why a file is held: too many of its rows are bad, or a rule is broken that holds files; None if it is not."""
    holding = [rule.reason for rule in work.rules if rule.holds_file and rule.reason in reasons]
    by_row = f"{'; '.join(holding)}: this rule holds the whole file" if holding else None
    return _too_many(work, object_id, good, bad) or by_row or _broken_by_file(work, object_id)


def _broken_by_file(work: _Work, object_id: str) -> str | None:
    """The expectations about a whole file that its good rows do not meet."""
    wanted = [each for each in work.suite["expectations"] if not is_row_level(each) and on_failure(each) == "hold_file"]
    if not wanted:
        return None
    from liftloop.landing.validation import validate  # noqa: PLC0415  (Great Expectations: seconds to import)

    good = f"FROM impressions WHERE object_id = {literal(object_id)} AND len(reasons) = 0"
    work.connection.execute(f"CREATE OR REPLACE VIEW good_rows AS SELECT * EXCLUDE (object_id, reasons, raw) {good}")
    findings = validate(work.connection, "good_rows", work.suite | {"expectations": wanted})
    broken = [finding.expectation for finding in findings if not finding.is_met]
    return f"it does not meet: {'; '.join(broken)}" if broken else None


def _too_many(work: _Work, object_id: str, good: int, bad: int) -> str | None:
    """Why a file is held: too many of its rows are bad, or repeat a key, which hides damaged ids."""
    share, limit = bad / max(good + bad, 1), work.contract.quarantine_share_limit
    if share > limit:
        return f"{share:.1%} of its rows are bad, more than the contract's quarantine_share_limit of {limit:.1%}"
    names = work.contract.deduplicate_by
    keys = ", ".join(map(quoted, names))
    distinct = f"SELECT count(DISTINCT row({keys})) FROM impressions WHERE object_id = $1 AND len(reasons) = 0"
    row = work.connection.execute(distinct, [object_id]).fetchone()
    repeated = good - (row[0] if row else 0)
    share, limit = repeated / max(good, 1), work.contract.duplicate_share_limit
    if share > limit and repeated >= _FEWEST_DUPLICATES:
        return (
            f"{repeated} of its {good} rows repeat the {', '.join(names)} of an earlier row, more than the contract's"
            f" duplicate_share_limit of {limit:.1%}"
        )
    return None


def _row_counts(work: _Work, object_id: str) -> tuple[int, int]:
    row = work.connection.execute(
        """
        SELECT count(*) FILTER (len(reasons) = 0),
            count(*) FILTER (len(reasons) > 0) + (SELECT count(*) FROM unread WHERE object_id = $1)
        FROM impressions WHERE object_id = $1
        """,
        [object_id],
    ).fetchone()
    assert row is not None  # an aggregate always returns a row
    return row[0], row[1]


def _stage(work: _Work, entry: Entry) -> Entry:
    """Write the object's files to local disk by its status, and count the duplicates among its rows."""
    folder = work.folder / "out" / entry.object_id
    folder.mkdir(parents=True)
    if entry.status == "ingested":
        stage_impressions(work.connection, work.contract, entry.object_id, folder)
        good, _ = _row_counts(work, entry.object_id)
        entry = entry.model_copy(update={"rows_valid": good, "rows_duplicate": entry.rows_valid - good})
    else:
        _stage_whole(work, entry, folder / quarantine_prefix(work.contract.source) / entry.object_id)
    stage_quarantine(work.connection, work.contract, entry.object_id, folder)
    return entry


def _stage_whole(work: _Work, entry: Entry, folder: Path) -> None:
    """Write a copy of the landed file, and the error, to a local folder."""
    folder.mkdir(parents=True)
    landed = _local(work, entry.object_id, entry.landed.key)
    (folder / landed.name).write_bytes(landed.read_bytes())
    error = {"landed": entry.landed.key, "status": entry.status, "error": entry.error, "reasons": entry.reasons}
    (folder / "error.json").write_text(json.dumps(error, indent=1), encoding="utf-8")


def _upload(work: _Work, entry: Entry, before: list[str], is_held: bool) -> Entry:
    """Copy the staged files to the store, delete the files they replace, then write the ledger entry: in this order.

    `before`: the keys of the lake before this batch; an ingested file replaces its earlier versions.
    """
    folder = work.folder / "out" / entry.object_id
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    put = concurrently(lambda path: work.store.put_version(str(path.relative_to(folder)), path.read_bytes()), files)
    written = {ref.key: Listed(ref.key, etag, ref.size_bytes, datetime.now(UTC)) for ref, etag in put}
    former = ids_of_these_bytes(work.store, work.contract.source, entry) if entry.status != "ingested" else set()
    replaced = [key for key in before if key not in written and _is_replaced(key, entry, former)]
    work.store.delete(replaced)
    prefix = impressions_prefix(work.contract.source)
    work.lake.replace(replaced, (item for key, item in written.items() if key.startswith(prefix)))
    written_entry = entry.model_copy(update={"outputs": tuple(ref for ref, _ in put)})
    write_entry(work.store, work.contract.source, written_entry, is_held=is_held)
    return written_entry


def _is_replaced(key: str, entry: Entry, former: set[str]) -> bool:
    """Whether a file of the lake is of an earlier version of this landed file, or left by an interrupted run.

    If a corrected file is held, the rows of its earlier version stay; if the same bytes are re-read and held, they go.
    """
    object_id = object_id_in(key)
    if entry.status != "ingested":
        return object_id == entry.object_id or object_id in former
    return landed_file_of(object_id) == landed_file_of(entry.object_id)
