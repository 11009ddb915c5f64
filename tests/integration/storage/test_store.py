"""The store on a real SeaweedFS: hashes, conditional writes, and what is refused."""

from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen
from uuid import uuid4

import pytest

from liftloop.storage.hashing import sha256_of
from liftloop.storage.store import ObjectRef, Store, SwapConflict


@pytest.fixture
def key() -> str:
    return f"test/{uuid4().hex}"


def test_an_object_keeps_its_hash_and_fingerprint(store: Store, key: str) -> None:
    ref = store.put(key, b"body", fingerprint="made from this")
    assert ref == ObjectRef(key, sha256_of(b"body"), 4)
    assert store.find(key) == ref
    assert store.fingerprint(key) == "made from this"
    assert store.get_verified(ref) == b"body"


def test_absent_objects(store: Store, key: str) -> None:
    assert store.find(key) is None
    assert store.fingerprint(key) is None
    with pytest.raises(KeyError, match=key):
        store.get(key)


def test_a_changed_object_is_refused(store: Store, key: str) -> None:
    ref = store.put(key, b"body")
    store.put(key, b"other")
    with pytest.raises(ValueError, match="was changed"):
        store.get_verified(ref)


def test_blobs_are_kept_once_under_their_hash(store: Store) -> None:
    body = uuid4().bytes
    first, second = store.put_blob(body, ".bin"), store.put_blob(body, ".bin")
    assert first == second
    assert first.key == f"blobs/sha256/{first.sha256[:2]}/{first.sha256}.bin"


def test_a_changed_blob_is_written_anew(store: Store) -> None:
    body = uuid4().bytes
    ref = store.put_blob(body)
    store.put(ref.key, b"tampered")
    assert store.put_blob(body) == ref
    assert store.get_verified(ref) == body


def test_swap_replaces_only_the_expected_version(store: Store, key: str) -> None:
    etag = store.swap(key, b"one", expected_etag=None)
    with pytest.raises(SwapConflict):
        store.swap(key, b"other", expected_etag=None)
    store.swap(key, b"two", expected_etag=etag)
    with pytest.raises(SwapConflict):
        store.swap(key, b"three", expected_etag=etag)
    assert store.get(key) == b"two"


def test_of_many_swaps_at_once_one_wins(store: Store, key: str) -> None:
    def attempt(n: int) -> bool:
        try:
            store.swap(key, str(n).encode(), expected_etag=None)
        except SwapConflict:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(attempt, range(16))) == 1


def test_a_shared_link_opens_without_credentials(store: Store, key: str) -> None:
    store.put(key, b"body")
    with urlopen(store.share_link(key)) as answer:
        assert answer.read() == b"body"
