"""Which champion a rollback brings back, and what it is refused for."""

from collections.abc import Callable
from functools import partial

import pytest
from lib.memory_store import MemoryStore
from lib.model_versions import crown_in_turn, put_version

from liftloop.registry.promotion import read_audit
from liftloop.registry.registry import Registry
from liftloop.registry.rollback import rollback, withdrawal
from liftloop.registry.versions import Pointer, RegistryError
from liftloop.storage.keys import audit_key
from liftloop.storage.store import Store


@pytest.fixture
def store() -> Store:
    return MemoryStore()


@pytest.fixture
def crown(store: Store, source: str) -> Callable[..., Pointer]:
    return partial(crown_in_turn, store, source)


def trail(store: Store, source: str) -> list[str]:
    return [entry.pointer.version for entry in read_audit(Registry(store, source))]


def test_a_rollback_restores_the_champion_before_and_says_why(
    store: Store, source: str, crown: Callable[..., Pointer]
) -> None:
    crown("a", "b")
    pointer = rollback(Registry(store, source), "clicks fell")
    assert pointer == Registry(store, source).champion()
    assert (pointer.version, pointer.previous, pointer.restores, pointer.reason) == ("a", "b", 1, "clicks fell")
    assert read_audit(Registry(store, source))[-1].pointer == pointer.model_copy(update={"etag": None})


@pytest.mark.parametrize(
    ("lost", "forged", "words"),
    [
        ((2, 3), "", "ends at move 1, but the champion is from move 3"),
        ((), '"version": "b"', "does not match the champion c"),
        ((), '"version": "c", "restores": 1', "does not match the champion c"),
    ],
)
def test_a_trail_that_does_not_fit_the_champion_stops_all_moves(
    store: Store, source: str, crown: Callable[..., Pointer], lost: tuple[int, ...], forged: str, words: str
) -> None:
    crown("a", "b", "c")
    store.delete(audit_key(source, number) for number in lost)
    if forged:
        entry = store.get(audit_key(source, 3)).decode().replace('"restores": null,', "")
        store.put(audit_key(source, 3), entry.replace('"version": "c"', forged).encode())
    with pytest.raises(RegistryError, match=words):
        rollback(Registry(store, source), "clicks fell")


@pytest.mark.parametrize(
    ("promoted", "restored"),
    [
        ("abc", ["b", "a", None]),  # two in a row go two back, not to the bad one
        ("aba", ["b", None]),  # a was rolled back the first time: it does not come back by itself
        ("abac", ["a", "b", None]),
        ("a", [None]),
    ],
)
def test_rollbacks_in_a_row_walk_back(
    store: Store, source: str, crown: Callable[..., Pointer], promoted: str, restored: list[str | None]
) -> None:
    crown(*promoted)
    for version in restored:
        if version is None:
            with pytest.raises(RegistryError, match=f"no champion of {source} before"):
                rollback(Registry(store, source), "bad")
        else:
            assert rollback(Registry(store, source), "bad").version == version


def test_a_promotion_after_a_rollback_goes_back_to_what_it_replaced(
    store: Store, source: str, crown: Callable[..., Pointer]
) -> None:
    crown("a", "b", "c")
    rollback(Registry(store, source), "c is bad")
    crown("d")
    assert [rollback(Registry(store, source), "bad").version for _ in range(2)] == ["b", "a"]
    assert trail(store, source) == ["a", "b", "c", "b", "d", "b", "a"]


def test_a_former_champion_can_be_named(store: Store, source: str, crown: Callable[..., Pointer]) -> None:
    crown("a", "b", "c")
    assert rollback(Registry(store, source), "both are bad", to="a").restores == 1
    with pytest.raises(RegistryError, match=r"before a to roll back to; former champions: b, c"):
        rollback(Registry(store, source), "bad")
    assert rollback(Registry(store, source), "c was right after all", to="c").restores == 3
    assert withdrawal(Registry(store, source), "c") is None
    assert rollback(Registry(store, source), "no").version == "b"


def test_what_was_rolled_back_is_remembered_until_it_is_champion_again(
    store: Store, source: str, crown: Callable[..., Pointer]
) -> None:
    crown("a", "b")
    assert withdrawal(Registry(store, source), "b") is None
    pointer = rollback(Registry(store, source), "clicks fell")
    found = withdrawal(Registry(store, source), "b")
    assert found == pointer.model_copy(update={"etag": None})
    assert withdrawal(Registry(store, source), "a") is None
    crown("b")
    assert withdrawal(Registry(store, source), "b") is None


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("b", "b is the champion of .* already, since "),
        ("beef", r"no model version 'beef'; on record: \['a', 'b', 'other'\]"),
        ("other", "other was never champion of .*: use `liftloop promote`; former champions: a"),
    ],
)
def test_what_cannot_be_restored_is_named(
    store: Store, source: str, crown: Callable[..., Pointer], to: str, words: str
) -> None:
    holder = crown("a", "b")
    put_version(store, source, "other")
    with pytest.raises(RegistryError, match=words):
        rollback(Registry(store, source), "bad", to)
    assert Registry(store, source).champion() == holder
    assert trail(store, source) == ["a", "b"]


def test_a_rollback_without_a_reason_is_refused(store: Store, source: str, crown: Callable[..., Pointer]) -> None:
    holder = crown("a", "b")
    with pytest.raises(RegistryError, match="needs a reason"):
        rollback(Registry(store, source), " ")
    assert Registry(store, source).champion() == holder


def test_without_a_champion_there_is_nothing_to_roll_back(store: Store, source: str) -> None:
    with pytest.raises(RegistryError, match=f"{source} has no champion yet"):
        rollback(Registry(store, source), "bad")


@pytest.mark.parametrize("blob", ["booster", "spec"])
@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_damaged_version_is_not_restored(
    store: Store, source: str, crown: Callable[..., Pointer], blob: str, damage: str
) -> None:
    version = put_version(store, source, "a")
    holder = crown("a", "b")
    key = getattr(version, blob).key
    store.delete([key])
    if damage == "changed":
        store.put(key, b"other bytes")
    with pytest.raises(RegistryError, match=f"a cannot be loaded: .*{key}"):
        rollback(Registry(store, source), "bad")
    assert Registry(store, source).champion() == holder


def test_entries_written_before_rollbacks_were_told_apart_still_bind(
    store: Store, source: str, crown: Callable[..., Pointer]
) -> None:
    crown("a")
    old = read_audit(Registry(store, source))[0]
    store.put(audit_key(source, 1), old.model_dump_json(exclude={"pointer": {"restores", "run_id"}}).encode())
    crown("b")
    assert trail(store, source) == ["a", "b"]
    assert rollback(Registry(store, source), "bad").version == "a"
