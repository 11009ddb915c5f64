"""Records: small JSON objects in the store."""

from typing import Self

from pydantic import Field

from liftloop.storage.frozen import Frozen
from liftloop.storage.store import ObjectRef, Store, SwapConflict


class Record(Frozen):
    """A model that is stored as one JSON object."""

    @classmethod
    def read(cls, store: Store, key: str) -> Self | None:
        """The current record; None if there is none."""
        try:
            return cls.model_validate_json(store.get(key))
        except KeyError:
            return None

    def write(self, store: Store, key: str) -> ObjectRef:
        """Write the record, replacing any other."""
        return store.put(key, self._body)

    @property
    def _body(self) -> bytes:
        return self.model_dump_json(indent=1).encode()


class SharedRecord(Record):
    """A record that several processes may replace at once. `etag` names the version that was read, for `swap`."""

    etag: str | None = Field(default=None, exclude=True)

    @classmethod
    def read(cls, store: Store, key: str) -> Self | None:
        """The current record; None if there is none."""
        try:
            body, head = store.get_version(key)
        except KeyError:
            return None
        return cls.model_validate_json(body).model_copy(update={"etag": head.etag})

    def swap(self, store: Store, key: str, expected: str | None) -> Self:
        """Replace the version with the etag `expected` (None: there is none); returns the record with its new etag.

        Raises:
            SwapConflict: the store has another version.
        """
        try:
            etag = store.swap(key, self._body, expected_etag=expected)
        except SwapConflict:
            # A write whose response was lost is sent again, and then conflicts with itself.
            current = type(self).read(store, key)
            if current is not None and current.model_dump() == self.model_dump():
                return current
            raise
        return self.model_copy(update={"etag": etag})
