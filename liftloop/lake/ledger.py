"""The outcome of every landed object: one entry per version, written last, so that each version counts once."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import PurePath

from pydantic import AwareDatetime, Field

from liftloop.lake.lake import Lake
from liftloop.lake.landed import Landed, landed_file_of, object_id_in
from liftloop.storage.frozen import Frozen
from liftloop.storage.keys import LEDGER, impressions_prefix, ledger_prefix
from liftloop.storage.runs import IngestStatus, Step
from liftloop.storage.store import Listed, ObjectRef, Store, concurrently


class Entry(Frozen):
    """The outcome of one version of a landed object. `rows_landed` is the sum of the five counts after it."""

    object_id: str
    landed: ObjectRef
    landed_at: AwareDatetime | None = None  # None in entries of earlier releases
    newest_event: AwareDatetime | None = None  # of its valid rows; of outcomes, when the newest became known
    lookups: tuple[ObjectRef, ...] = ()  # the reference files it was read with
    outcomes: tuple[ObjectRef, ...] = ()  # the files of outcomes that are joined to its impressions
    status: IngestStatus
    rows_landed: int = 0
    rows_valid: int = 0
    rows_quarantined: int = 0
    rows_duplicate: int = 0
    rows_left_out: int = 0  # by the contract's `keep`
    rows_erased: int = 0  # of people whose data is erased
    reasons: dict[str, int] = Field(default_factory=dict)
    error: str | None = None
    outputs: tuple[ObjectRef, ...] = ()


def pending(lake: Lake, landed: Landed) -> list[Listed]:
    """Landed objects whose current version is not in the lake: outcomes, new files, re-reads; each oldest first."""
    done = _complete_in_lake(lake) | _held(lake).keys()
    waiting = {object_id: item for object_id, item in landed.by_id.items() if object_id not in done}
    known = files_in_lake(lake)

    def turn(object_id: str) -> tuple[bool, bool]:
        is_impressions = landed.outcome_files_of(waiting[object_id].key) is None
        return is_impressions, landed_file_of(object_id) in known

    return [waiting[object_id] for object_id in sorted(waiting, key=turn)]


def files_in_lake(lake: Lake) -> set[str]:
    """The landed files with rows in the lake, in any version; each as the beginning that its ids share."""
    return {landed_file_of(object_id_in(item.key)) for item in lake.files}


def disowned(lake: Lake, landed: Landed) -> list[Listed]:
    """Landed objects with rows in the lake that the contract no longer reads as impressions."""
    known = files_in_lake(lake)
    others = [item for item in landed.listed.values() if not landed.is_of_impressions(item.key)]
    return [item for item in others if landed_file_of(landed.object_id(item)) in known]


def _complete_in_lake(lake: Lake) -> set[str]:
    """Ids of the ingested objects whose files are all in the lake, with no files of another version left.

    An entry's name ends with the number of files.
    """
    in_lake = Counter(object_id_in(item.key) for item in lake.files)
    of_file = Counter(landed_file_of(object_id_in(item.key)) for item in lake.files)
    entries = lake.store.list(ledger_prefix(lake.contract.source, "ingested"))
    names = (PurePath(item.key).stem.split("-") for item in entries)
    return {name for name, files in names if in_lake[name] == of_file[landed_file_of(name)] == int(files)}


def _held(lake: Lake) -> dict[str, Listed]:
    """The entries of objects that are not in the lake, by the object's id."""
    return {PurePath(item.key).stem: item for item in lake.store.list(ledger_prefix(lake.contract.source, "held"))}


def blocked(lake: Lake) -> list[Entry]:
    """Entries of the landed objects that are not in the lake, except objects replaced or deleted since."""
    landed, held = Landed.read(lake.store, lake.contract), _held(lake)
    return _read(lake.store, (item for object_id, item in held.items() if object_id in landed.by_id))


def blocked_ids(lake: Lake, landed: Landed) -> set[str]:
    """Ids of the landed objects that are not in the lake."""
    return _held(lake).keys() & landed.by_id.keys()


def ids_of_these_bytes(store: Store, source: str, entry: Entry) -> set[str]:
    """Ids under which the same bytes of a landed file were ingested before, by another contract, suite or reference."""
    prefix = f"{ledger_prefix(source, 'ingested')}{landed_file_of(entry.object_id)}"
    return {each.object_id for each in _read(store, store.list(prefix)) if each.landed == entry.landed}


def ingested(lake: Lake) -> list[Entry]:
    """The newest entry of each landed file whose rows are in the lake."""
    complete = _complete_in_lake(lake)  # without versions that were replaced
    entries_prefix = ledger_prefix(lake.contract.source, "ingested")
    items = sorted(lake.store.list(entries_prefix), key=lambda item: item.modified)
    entries = _read(lake.store, (item for item in items if PurePath(item.key).stem.split("-")[0] in complete))
    return list({entry.landed.key: entry for entry in entries}.values())


def ingested_recently(store: Store, source: str, span: timedelta) -> list[Entry]:
    """The entries written within `span` of the newest, those of replaced versions included."""
    items = list(store.list(ledger_prefix(source, "ingested")))
    since = max((item.modified for item in items), default=None)
    return _read(store, (item for item in items if since and item.modified >= since - span))


def entries_except(store: Store, object_ids: set[str]) -> list[tuple[datetime, Entry]]:
    """The entries of all sources except the ones of these objects, each with the time at which it was written."""
    items = [item for item in store.list(LEDGER) if PurePath(item.key).stem.split("-")[0] not in object_ids]
    return list(zip((item.modified for item in items), _read(store, items), strict=True))


def write_entry(store: Store, source: str, entry: Entry, *, is_held: bool) -> None:
    """Write an object's entry; for an object that was held (`is_held`) and is now ingested, delete the held entry."""
    held_key = f"{ledger_prefix(source, 'held')}{entry.object_id}.json"
    if entry.status != "ingested":
        store.put(held_key, entry.model_dump_json().encode())
        return
    files = sum(ref.key.startswith(impressions_prefix(source)) for ref in entry.outputs)
    store.put(f"{ledger_prefix(source, 'ingested')}{entry.object_id}-{files}.json", entry.model_dump_json().encode())
    if is_held:
        store.delete([held_key])


def reopen(store: Store, source: str, object_ids: set[str]) -> None:
    """Have these objects read again; until then, their rows stay in the lake."""
    if not object_ids:
        return
    folders = (ledger_prefix(source, "ingested"), ledger_prefix(source, "held"))
    entries = [item.key for folder in folders for item in store.list(folder)]
    store.delete([key for key in entries if PurePath(key).stem.split("-")[0] in object_ids])


def ingest_step(entry: Entry) -> Step:
    """The outcome of an object, as a step of a run."""
    counts = entry.model_dump(include={"error", "rows_landed", "rows_valid", "rows_quarantined", "rows_duplicate"})
    inputs = (entry.landed, *entry.lookups, *entry.outcomes)
    return Step(name="ingest", inputs=inputs, outputs=entry.outputs, metrics=counts, ingest_status=entry.status)


def _read(store: Store, items: Iterable[Listed]) -> list[Entry]:
    return [Entry.model_validate_json(body) for body in concurrently(store.get, (item.key for item in items))]
