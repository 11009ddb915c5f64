"""What became of every landed object: one entry for each version of it, written last, so that each counts once."""

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict

from liftloop.contract import Contract
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
    """Landed objects that have no entry yet, or were held back under other rules; oldest first."""
    settled = {_id_in(item.key) for item in store.list(_prefix(contract.source, "ingested"))}
    settled |= {entry.object_id for entry in held(store, contract.source) if entry.rules == rules}
    landed = sorted(store.list(contract.landing_prefix), key=lambda item: (item.modified, item.key))
    for item in landed:
        if object_id_of(item) not in settled and not _is_reference(contract, item.key):
            yield item


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
    folder = "ingested" if entry.status == "ingested" else "held"
    store.put(f"{_prefix(source, folder)}{entry.object_id}.json", entry.model_dump_json().encode())
    if folder == "ingested":
        store.delete([f"{_prefix(source, 'held')}{entry.object_id}.json"])


def _prefix(source: str, folder: str) -> str:
    return f"ledger/{source}/{folder}/"


def _id_in(key: str) -> str:
    return key.rsplit("/", 1)[1].removesuffix(".json")


def _is_reference(contract: Contract, key: str) -> bool:
    relative = key.removeprefix(contract.landing_prefix)
    return any(lookup.path_parts(relative) is not None for lookup in contract.lookups.values())
