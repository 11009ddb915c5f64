"""Ingests that end before any of their writes, as a kill would end them."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from liftloop.contract.contract import Contract
from liftloop.lake.lake import Lake
from liftloop.landing.ingest import ingest_batch, pending_batches
from liftloop.storage.keys import landing_prefix
from liftloop.storage.store import ObjectRef, Store


class KilledError(Exception):
    """In place of a kill: nothing is written any more."""


@dataclass(frozen=True)
class MortalStore(Store):
    """Dies before one of its next writes."""

    writes: Iterator[int] = field(default_factory=lambda: iter(()))

    def put_version(self, key: str, body: bytes, *, fingerprint: str | None = None) -> tuple[ObjectRef, str]:
        self._live()
        return super().put_version(key, body, fingerprint=fingerprint)

    def delete(self, keys: Iterable[str]) -> None:
        self._live()
        super().delete(keys)

    def _live(self) -> None:
        if next(self.writes, None) is None:
            raise KilledError


def ingest(store: Store, contract: Contract) -> None:
    """In batches of one object."""
    lake = Lake(store, contract)
    while batches := list(pending_batches(lake, batch_objects=1)):
        for batch in batches:
            ingest_batch(lake, batch)


def ingest_until_killed(store: Store, contract: Contract, writes: int) -> None:
    with suppress(KilledError):
        ingest(MortalStore(store.settings, writes=iter(range(writes))), contract)


def land(store: Store, source: str, name: str, text: str) -> None:
    store.put(landing_prefix(source) + name, text.encode())
