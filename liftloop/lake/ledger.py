"""The outcome of every landed object: one entry per version, written last, so that each version counts once."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import PurePath

from pydantic import Field

from liftloop.contract.contract import Contract
from liftloop.lake.impressions import object_id_in, object_id_of
from liftloop.lake.lake import Lake
from liftloop.storage.frozen import Frozen
from liftloop.storage.keys import LEDGER, impressions_prefix, landing_prefix, ledger_prefix
from liftloop.storage.runs import IngestStatus, Step
from liftloop.storage.store import Listed, ObjectRef, Store, concurrently


class Entry(Frozen):
    """The outcome of one version of a landed object. `rows_landed` is the sum of the four counts after it."""

    object_id: str
    landed: ObjectRef
    lookups: tuple[ObjectRef, ...] = ()  # the reference files it was read with
    status: IngestStatus
    rules: str  # fingerprint of contract and suite: objects held under older rules are tried again
    rows_landed: int = 0
    rows_valid: int = 0
    rows_quarantined: int = 0
    rows_duplicate: int = 0
    rows_erased: int = 0  # of people whose data is erased
    reasons: dict[str, int] = Field(default_factory=dict)
    error: str | None = None
    outputs: tuple[ObjectRef, ...] = ()


def pending(lake: Lake, rules: str) -> Iterator[Listed]:
    """Landed objects, oldest first, that have no entry, were held under other rules, or lack files in the lake."""
    store, contract = lake.store, lake.contract
    done = _complete_in_lake(lake)
    held = _read(store, store.list(ledger_prefix(contract.source, "held")))
    done |= {entry.object_id for entry in held if entry.rules == rules}
    landed = sorted(store.list(landing_prefix(contract.source)), key=lambda item: (item.modified, item.key))
    for item in landed:
        if object_id_of(item) not in done and not is_reference_or_marker(contract, item.key):
            yield item


def _complete_in_lake(lake: Lake) -> set[str]:
    """Ids of the ingested objects whose files are all in the lake; an entry's name ends with the number of files."""
    in_lake = Counter(object_id_in(item.key) for item in lake.files)
    entries = lake.store.list(ledger_prefix(lake.contract.source, "ingested"))
    names = (PurePath(item.key).stem.split("-") for item in entries)
    return {object_id for object_id, files in names if in_lake[object_id] == int(files)}


def blocked(store: Store, source: str) -> list[Entry]:
    """Entries of the landed objects that are not in the lake, except objects replaced or deleted since."""
    wanted = blocked_ids(store, source)
    return _read(
        store, (item for item in store.list(ledger_prefix(source, "held")) if PurePath(item.key).stem in wanted)
    )


def blocked_ids(store: Store, source: str) -> set[str]:
    """Ids of the landed objects that are not in the lake."""
    entries = {PurePath(item.key).stem for item in store.list(ledger_prefix(source, "held"))}
    return entries and entries & {object_id_of(item) for item in store.list(landing_prefix(source))}


def ingested(lake: Lake) -> list[Entry]:
    """The newest entry of each landed file whose rows are in the lake."""
    complete = _complete_in_lake(lake)  # without versions that were replaced
    entries_prefix = ledger_prefix(lake.contract.source, "ingested")
    items = sorted(lake.store.list(entries_prefix), key=lambda item: item.modified)
    entries = _read(lake.store, (item for item in items if PurePath(item.key).stem.split("-")[0] in complete))
    return list({entry.landed.key: entry for entry in entries}.values())


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


def ingest_step(entry: Entry) -> Step:
    """The outcome of an object, as a step of a run."""
    counts = entry.model_dump(include={"error", "rows_landed", "rows_valid", "rows_quarantined", "rows_duplicate"})
    inputs = (entry.landed, *entry.lookups)
    return Step(name="ingest", inputs=inputs, outputs=entry.outputs, metrics=counts, ingest_status=entry.status)


def _read(store: Store, items: Iterable[Listed]) -> list[Entry]:
    return [Entry.model_validate_json(body) for body in concurrently(store.get, (item.key for item in items))]


def is_reference_or_marker(contract: Contract, key: str) -> bool:
    """Whether a landed object is a reference file, or a folder marker as consoles of object stores create."""
    relative = key.removeprefix(landing_prefix(contract.source))
    is_reference = any(lookup.path_parts(relative) is not None for lookup in contract.lookups.values())
    return is_reference or key.endswith("/")
