"""What the partitions of a derived table were made from, in one object: so nobody asks for each of them.

An entry says that the object with this etag was made from the sources with this fingerprint. The index repeats what
the partitions themselves bear: one that is lost or damaged is made again from them.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import ValidationError

from liftloop.storage.frozen import Frozen
from liftloop.storage.store import Store


@dataclass(frozen=True)
class Entry:
    """One partition, as it was last seen in the store."""

    key: str
    etag: str
    fingerprint: str


class _File(Frozen):
    """`index.json`: key -> etag and fingerprint."""

    partitions: dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Index:
    """The index at a key, as it was read or written. `etag`: None while there is none."""

    store: Store
    key: str
    entries: dict[str, Entry] = field(default_factory=dict)
    etag: str | None = None

    @classmethod
    def read(cls, store: Store, key: str) -> "Index":
        """The index, or an empty one where there is none or it cannot be read."""
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
        """Written before these partitions change: a killed update leaves no entry that is not true."""
        gone = set(keys)
        return self._written({name: entry for name, entry in self.entries.items() if name not in gone})

    def with_changes(self, removed: Iterable[str], entries: Iterable[Entry]) -> "Index":
        """Written after these partitions are in the store, and those that nobody wants are not.

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
