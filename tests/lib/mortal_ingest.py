"""Ingests that end before any of their writes, as a kill would end them."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count

from liftloop.contract.contract import Contract
from liftloop.lake.lake import Lake
from liftloop.landing.disowned import remove_disowned
from liftloop.landing.ingest import ingest_batch, pending_batches
from liftloop.storage.keys import landing_prefix
from liftloop.storage.store import Listed, ObjectRef, Store

FIRST = datetime(2026, 3, 1, tzinfo=UTC)


class KilledError(Exception):
    """In place of a kill: nothing is written any more."""


@dataclass(frozen=True)
class MortalStore(Store):
    """Dies before one of its next writes, and tells when files landed more exactly than to the second."""

    landed: dict[str, datetime] = field(default_factory=dict)
    clock: Iterator[int] = field(default_factory=count)
    writes: Iterator[int] = field(default_factory=count)  # endless

    def list(self, prefix: str) -> Iterator[Listed]:
        for item in super().list(prefix):
            yield replace(item, modified=self.landed.get(item.key, item.modified))

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
    remove_disowned(lake)
    while batches := list(pending_batches(lake, batch_objects=1)):
        for batch in batches:
            ingest_batch(lake, batch)


def ingest_until_killed(store: MortalStore, contract: Contract, writes: int) -> None:
    with suppress(KilledError):
        ingest(replace(store, writes=iter(range(writes))), contract)


def land(store: MortalStore, source: str, name: str, text: str) -> None:
    """Land a file, later than the one before."""
    key = landing_prefix(source) + name
    store.put(key, text.encode())
    store.landed[key] = FIRST + timedelta(milliseconds=next(store.clock))
