"""The store in memory answers as the real one does, whatever is asked of it in whatever order."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

from hypothesis import given, settings
from hypothesis import strategies as st
from lib.memory_store import MemoryStore

from liftloop.storage.store import Store, SwapConflict

KEYS = st.sampled_from(["a/1", "a/2", "a/10", "b"])
BODIES = st.sampled_from([b"", b"one", b"two"])
OPERATIONS = st.one_of(
    st.tuples(st.just("put"), KEYS, BODIES, st.sampled_from([None, "f1", "f2"])),
    st.tuples(st.just("put_blob"), BODIES),
    st.tuples(st.just("swap"), KEYS, BODIES, st.sampled_from(["current", "absent", "other"])),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("look"), KEYS),
)


def outcome(ask: Callable[[], Any]) -> Any:
    """What it returns, or the kind of its error."""
    try:
        return ask()
    except (KeyError, SwapConflict) as error:
        return type(error)


def apply(store: Store, prefix: str, operation: tuple[Any, ...]) -> Any:
    name, *arguments = operation
    if name == "put_blob":
        return store.put_blob(arguments[0] + prefix.encode(), ".bin")
    key = prefix + arguments[0]
    if name == "put":
        return store.put_version(key, arguments[1], fingerprint=arguments[2])
    if name == "swap":
        head = store.head(key)
        etags = {"current": head.etag if head else None, "absent": None, "other": "0" * 32}
        return outcome(lambda: store.swap(key, arguments[1], expected_etag=etags[arguments[2]]))
    if name == "delete":
        return store.delete([key])
    return outcome(lambda: store.get(key)), store.head(key), store.find(key), store.fingerprint(key)


def listed(store: Store, prefix: str) -> set[tuple[str, str, int]]:
    return {(item.key, item.etag, item.size_bytes) for item in store.list(prefix)}


@settings(max_examples=40)
@given(operations=st.lists(OPERATIONS, max_size=12))
def test_both_stores_answer_alike(store: Store, operations: list[tuple[Any, ...]]) -> None:
    prefix, memory = f"{uuid4().hex}/", MemoryStore(store.settings)
    for operation in operations:
        assert apply(memory, prefix, operation) == apply(store, prefix, operation)
        assert listed(memory, prefix) == listed(store, prefix)
        assert listed(memory, f"{prefix}a/1") == listed(store, f"{prefix}a/1")
