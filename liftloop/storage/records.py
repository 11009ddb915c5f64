"""Small records in the store that name a version and are moved by compare-and-swap."""

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from liftloop.storage.store import Store, SwapConflict


class Record(BaseModel):
    """What a pointer says; `etag` is of the object that it was read from: what a move expects."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    etag: str | None = Field(default=None, exclude=True)


R = TypeVar("R", bound=Record)


def read_record(store: Store, key: str, form: type[R]) -> R | None:
    """The record as it is now; None before the first."""
    try:
        body, head = store.get_version(key)
    except KeyError:
        return None
    return form.model_validate_json(body).model_copy(update={"etag": head.etag})


def swap_record(store: Store, key: str, record: R, expected: str | None) -> R:
    """Put a record in the place of the one with the etag `expected`, of none where that is None.

    Raises:
        SwapConflict: another is there.
    """
    try:
        etag = store.swap(key, record.model_dump_json(indent=1).encode(), expected_etag=expected)
    except SwapConflict:
        # A write whose answer was lost is sent again, and then conflicts with itself.
        there = read_record(store, key, type(record))
        if there is not None and there.model_dump() == record.model_dump():
            return there
        raise
    return record.model_copy(update={"etag": etag})
