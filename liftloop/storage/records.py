"""Records: small JSON objects in the store."""

from typing import Self

from pydantic import Field

from liftloop.storage.frozen import Frozen
from liftloop.storage.store import ObjectRef, Store, SwapConflict


class Record(Frozen):
    """One JSON object."""

    @classmethod
    def read(cls, store: Store, key: str) -> Self | None:
        """The record as it is now; None if there is none."""
        try:
            return cls.model_validate_json(store.get(key))
        except KeyError:
            return None

    def write(self, store: Store, key: str) -> ObjectRef:
        """Write it, whatever is there."""
        return store.put(key, self._body)

    @property
    def _body(self) -> bytes:
        return self.model_dump_json(indent=1).encode()


class SharedRecord(Record):
    """One that several processes may move at once. `etag` names the version that was read: `swap` expects it."""

    etag: str | None = Field(default=None, exclude=True)

    @classmethod
    def read(cls, store: Store, key: str) -> Self | None:
        """The record as it is now; None if there is none."""
        try:
            body, head = store.get_version(key)
        except KeyError:
            return None
        return cls.model_validate_json(body).model_copy(update={"etag": head.etag})

    def swap(self, store: Store, key: str, expected: str | None) -> Self:
        """Replace the record with the etag `expected`; None: there must be none. Returns it with its new etag.

        Raises:
            SwapConflict: another is there.
        """
        try:
            etag = store.swap(key, self._body, expected_etag=expected)
        except SwapConflict:
            # A write whose answer was lost is sent again, and then conflicts with itself.
            there = type(self).read(store, key)
            if there is not None and there.model_dump() == self.model_dump():
                return there
            raise
        return self.model_copy(update={"etag": etag})
