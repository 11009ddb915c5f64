"""What became of every landed object: one entry for each version of it, written last, so that each counts once."""

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePath
from typing import Literal

from pydantic import BaseModel, ConfigDict

from liftloop.contract import Contract
from liftloop.lake import impressions_prefix, object_id_in
from liftloop.store import Listed, ObjectRef, Store, fingerprint_of


class Entry(BaseModel):
    """The fate of one version of a landed object. `rows_landed` is the sum of the three counts after it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    object_id: str
    landed: ObjectRef
    status: Literal["ingested", "held", "rejected"]
    rules: str  # fingerprint of contract and suite: what was held under older rules is tried again
    rows_landed: int = 0
    rows_valid: int = 0
    rows_quarantined: int = 0
    rows_duplicate: int = 0
    reasons: dict[str, int] = {}
    error: str | None = None
    outputs: tuple[ObjectRef, ...] = ()


def object_id_of(item: Listed) -> str:
    """A short name for one version of a landed object."""
    return fingerprint_of(item.key, item.etag)[:16]


def pending(store: Store, contract: Contract, rules: str) -> Iterator[Listed]:
    """Landed objects, oldest first, that have no entry, were held under other rules, or have lost files in the lake."""
    settled = _whole_in_lake(store, contract.source)
    settled |= {entry.object_id for entry in held(store, contract.source) if entry.rules == rules}
    landed = sorted(store.list(contract.landing_prefix), key=lambda item: (item.modified, item.key))
    for item in landed:
        if object_id_of(item) not in settled and not _is_reference(contract, item.key):
            yield item


def _whole_in_lake(store: Store, source: str) -> set[str]:
    """The ingested objects whose files are all in the lake; entries bear the number in their name."""
    in_lake = Counter(object_id_in(item.key) for item in store.list(impressions_prefix(source)))
    names = (PurePath(item.key).stem.split("-") for item in store.list(_prefix(source, "ingested")))
    return {object_id for object_id, files in names if in_lake[object_id] == int(files)}


def held(store: Store, source: str) -> list[Entry]:
    """The objects that stay outside the lake, with the reasons."""
    bodies = (store.get(item.key) for item in store.list(_prefix(source, "held")))
    return [Entry.model_validate_json(body) for body in bodies]


def ingested(store: Store, source: str) -> list[Entry]:
    """The objects whose rows are in the lake."""
    bodies = (store.get(item.key) for item in store.list(_prefix(source, "ingested")))
    return [Entry.model_validate_json(body) for body in bodies]


def settle(store: Store, source: str, entry: Entry) -> None:
    """Write an object's entry; an ingested one is no longer held."""
    held_key = f"{_prefix(source, 'held')}{entry.object_id}.json"
    if entry.status != "ingested":
        store.put(held_key, entry.model_dump_json().encode())
        return
    files = sum(ref.key.startswith(impressions_prefix(source)) for ref in entry.outputs)
    store.put(f"{_prefix(source, 'ingested')}{entry.object_id}-{files}.json", entry.model_dump_json().encode())
    store.delete([held_key])


def _prefix(source: str, folder: str) -> str:
    return f"ledger/{source}/{folder}/"


def _is_reference(contract: Contract, key: str) -> bool:
    relative = key.removeprefix(contract.landing_prefix)
    return any(lookup.path_parts(relative) is not None for lookup in contract.lookups.values())
