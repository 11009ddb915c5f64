"""An index of a derived table's partitions in one object, which saves a request for each of them.

An entry says that the object with this etag was computed from sources with this fingerprint. The partitions carry the
same fingerprints, so a lost or damaged index is rebuilt from them.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import ValidationError

from liftloop.storage.frozen import Frozen
from liftloop.storage.store import Store


@dataclass(frozen=True)
class Entry:
    """One partition, as last found in the store."""

    key: str
    etag: str
    fingerprint: str


class _File(Frozen):
    """`index.json`: key -> etag and fingerprint."""

    partitions: dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Index:
    """The index at a key, as read or written. `etag`: None if it does not exist."""

    store: Store
    key: str
    entries: dict[str, Entry] = field(default_factory=dict)
    etag: str | None = None

    @classmethod
    def read(cls, store: Store, key: str) -> "Index":
        """The index, or an empty one if it does not exist or is damaged."""
        try:
            body, head = store.get_version(key)
        except KeyError:
            return cls(store, key)
        try:
            known = _File.model_validate_json(body).partitions
        except ValidationError:
            known = {}
        return cls(store, key, {name: Entry(name, *version) for name, version in known.items()}, head.etag)

    def knows(self, key: str, fingerprint: str) -> bool:
        entry = self.entries.get(key)
        return entry is not None and entry.fingerprint == fingerprint

    def without(self, keys: Iterable[str]) -> "Index":
        """Written before these partitions change, so that a killed update leaves no wrong entry."""
        gone = set(keys)
        return self._written({name: entry for name, entry in self.entries.items() if name not in gone})

    def with_changes(self, removed: Iterable[str], entries: Iterable[Entry]) -> "Index":
        """Written after these partitions are stored and the removed ones deleted.

        Raises:
            SwapConflict: another update wrote the index meanwhile.
        """
        gone = set(removed)
        kept = {key: entry for key, entry in self.entries.items() if key not in gone}
        return self._written(kept | {entry.key: entry for entry in entries})

    def _written(self, entries: dict[str, Entry]) -> "Index":
        if entries == self.entries:
            return self
        known = {name: (entry.etag, entry.fingerprint) for name, entry in sorted(entries.items())}
        etag = self.store.swap(self.key, json.dumps({"partitions": known}).encode(), expected_etag=self.etag)
        return Index(self.store, self.key, entries, etag)
