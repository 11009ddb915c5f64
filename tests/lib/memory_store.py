"""The object store in memory, for tests of logic alone; test_memory_store.py holds it equal to the real one."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from liftloop.settings import Role, Settings
from liftloop.storage.hashing import sha256_of
from liftloop.storage.store import Head, Listed, ObjectRef, Store, SwapConflict


@dataclass(frozen=True)
class MemoryStore(Store):
    """The same bucket for every role."""

    settings: Settings = field(default_factory=Settings)
    objects: dict[str, tuple[bytes, str | None, datetime]] = field(default_factory=dict)

    def as_role(self, role: Role) -> Store:  # noqa: ARG002
        return self

    def put_version(self, key: str, body: bytes, *, fingerprint: str | None = None) -> tuple[ObjectRef, str]:
        self.objects[key] = body, fingerprint, datetime.now(UTC)
        return ObjectRef(key, sha256_of(body), len(body)), _etag(body)

    def get_version(self, key: str) -> tuple[bytes, Head]:
        head = self.head(key)
        if head is None:
            raise KeyError(f"no object {self.uri(key)}")
        return self.objects[key][0], head

    def head(self, key: str) -> Head | None:
        if key not in self.objects:
            return None
        body, fingerprint, _ = self.objects[key]
        return Head(key, _etag(body), len(body), sha256_of(body), fingerprint)

    def swap(self, key: str, body: bytes, *, expected_etag: str | None) -> str:
        head = self.head(key)
        if (head.etag if head else None) != expected_etag:
            raise SwapConflict(f"{self.uri(key)} changed since it was read")
        return self.put_version(key, body)[1]

    def list(self, prefix: str) -> Iterator[Listed]:
        for key in sorted(self.objects):
            if key.startswith(prefix):
                body, _, modified = self.objects[key]
                yield Listed(key, _etag(body), len(body), modified)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.objects.pop(key, None)


def _etag(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()
