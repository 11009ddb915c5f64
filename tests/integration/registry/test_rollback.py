"""Rollback on a real object store: which champion comes back, against others at once, and across crashes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier

import pytest
from lib.model_versions import put_version

from liftloop.registry.promotion import PromotionConflict, promote, read_audit
from liftloop.registry.rollback import rollback, withdrawal
from liftloop.registry.versions import (
    Pointer,
    RegistryError,
    audit_key,
    champion,
)
from liftloop.storage.store import Head, Store

CONTENDERS = 8


@pytest.fixture
def crown(store: Store, source: str) -> Callable[..., Pointer]:
    """Puts versions on record and promotes each in turn."""

    def crown(*names: str) -> Pointer:
        for name in names:
            put_version(store, source, name)
            holder = champion(store, source)
            holder = promote(store, source, name, f"{name} is better", holder.etag if holder else None)
        assert holder is not None
        return holder

    return crown


def trail(store: Store, source: str) -> list[str]:
    return [entry.pointer.version for entry in read_audit(store, source)]


def test_a_rollback_restores_the_champion_before_and_says_why(
    store: Store, source: str, crown: Callable[..., Pointer]
) -> None:
    crown("a", "b")
    pointer = rollback(store, source, "clicks fell")
    assert pointer == champion(store, source)
    assert (pointer.version, pointer.previous, pointer.restores, pointer.reason) == ("a", "b", 1, "clicks fell")
    assert read_audit(store, source)[-1].pointer == pointer.model_copy(update={"etag": None})


@pytest.mark.parametrize(
    ("lost", "forged", "words"),
    [
        ((2, 3), "", "ends at 1, its champion is move 3"),
        ((), '"version": "b"', "is not about its champion"),
        ((), '"version": "c", "restores": 1', "is not about its champion"),
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
        rollback(store, source, "clicks fell")


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
                rollback(store, source, "bad")
        else:
            assert rollback(store, source, "bad").version == version


def test_a_promotion_after_a_rollback_goes_back_to_what_it_replaced(
    store: Store, source: str, crown: Callable[..., Pointer]
) -> None:
    crown("a", "b", "c")
    rollback(store, source, "c is bad")
    crown("d")
    assert [rollback(store, source, "bad").version for _ in range(2)] == ["b", "a"]
    assert trail(store, source) == ["a", "b", "c", "b", "d", "b", "a"]


def test_a_former_champion_can_be_named(store: Store, source: str, crown: Callable[..., Pointer]) -> None:
    crown("a", "b", "c")
    assert rollback(store, source, "both are bad", to="a").restores == 1
    with pytest.raises(RegistryError, match=r"before a to go back to; former champions: b, c"):
        rollback(store, source, "bad")
    assert rollback(store, source, "c was right after all", to="c").restores == 3
    assert withdrawal(store, source, "c") is None
    assert rollback(store, source, "no").version == "b"


def test_what_was_rolled_back_is_remembered_until_it_is_champion_again(
    store: Store, source: str, crown: Callable[..., Pointer]
) -> None:
    crown("a", "b")
    assert withdrawal(store, source, "b") is None
    pointer = rollback(store, source, "clicks fell")
    found = withdrawal(store, source, "b")
    assert found == pointer.model_copy(update={"etag": None})
    assert withdrawal(store, source, "a") is None
    crown("b")
    assert withdrawal(store, source, "b") is None


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("b", "b is the champion of .* already, since "),
        ("beef", r"no model version 'beef'; on record: \['a', 'b', 'other'\]"),
        ("other", "other never was champion of .*: a rollback makes no new one; former champions: a"),
    ],
)
def test_what_cannot_be_restored_is_named(
    store: Store, source: str, crown: Callable[..., Pointer], to: str, words: str
) -> None:
    holder = crown("a", "b")
    put_version(store, source, "other")
    with pytest.raises(RegistryError, match=words):
        rollback(store, source, "bad", to)
    assert champion(store, source) == holder
    assert trail(store, source) == ["a", "b"]


def test_a_rollback_without_a_reason_is_refused(store: Store, source: str, crown: Callable[..., Pointer]) -> None:
    holder = crown("a", "b")
    with pytest.raises(RegistryError, match="needs a reason"):
        rollback(store, source, " ")
    assert champion(store, source) == holder


def test_without_a_champion_there_is_nothing_to_roll_back(store: Store, source: str) -> None:
    with pytest.raises(RegistryError, match=f"{source} has no champion yet"):
        rollback(store, source, "bad")


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
        rollback(store, source, "bad")
    assert champion(store, source) == holder


@dataclass(frozen=True)
class MeetsOthers(Store):
    """Goes on from its first reading only when all have read the same."""

    meeting: Barrier | None = None

    def get_version(self, key: str) -> tuple[bytes, Head]:
        seen = super().get_version(key)
        meeting = vars(self).pop("meeting")
        vars(self)["meeting"] = None
        if meeting is not None:
            meeting.wait()
        return seen


def test_of_rollbacks_at_once_exactly_one_moves_the_champion(
    store: Store, source: str, crown: Callable[..., Pointer]
) -> None:
    crown("a", "b", "c")
    start = Barrier(CONTENDERS)
    stores = [MeetsOthers(store.settings, meeting=start) for _ in range(CONTENDERS)]

    def contend(own: Store) -> Pointer | PromotionConflict:
        try:
            return rollback(own, source, "clicks fell")
        except PromotionConflict as conflict:
            return conflict

    with ThreadPoolExecutor(CONTENDERS) as pool:
        results = list(pool.map(contend, stores))
    (winner,) = [result for result in results if isinstance(result, Pointer)]
    losers = [str(result) for result in results if isinstance(result, PromotionConflict)]
    assert len(losers) == CONTENDERS - 1
    assert all("moved in the meantime and now is b since" in loser for loser in losers)
    assert champion(store, source) == winner
    assert trail(store, source) == ["a", "b", "c", "b"]


@dataclass(frozen=True)
class DiesAfter(Store):
    """The process ends between a move of the pointer and its entry in the trail, if its number is above `last`."""

    last: int = 0

    def swap(self, key: str, body: bytes, *, expected_etag: str | None) -> str:
        if key.startswith("audit/") and int(key[-13:-5]) > self.last:
            raise KeyboardInterrupt
        return super().swap(key, body, expected_etag=expected_etag)


@pytest.fixture
def interrupted(store: Store, source: str, crown: Callable[..., Pointer]) -> Pointer:
    """A rollback from c to b by the run `r1` that was not written down."""
    crown("a", "b")
    holder = crown("c")
    with pytest.raises(KeyboardInterrupt):
        rollback(DiesAfter(store.settings, last=holder.number), source, "clicks fell", run_id="r1")
    pointer = champion(store, source)
    assert pointer is not None
    assert (pointer.version, trail(store, source)) == ("b", ["a", "b", "c"])
    return pointer


def test_the_run_that_was_interrupted_rolls_back_once(store: Store, source: str, interrupted: Pointer) -> None:
    again = rollback(store, source, "clicks fell", run_id="r1")
    assert again.number == interrupted.number
    assert rollback(store, source, "clicks fell", run_id="r1").number == interrupted.number
    assert trail(store, source) == ["a", "b", "c", "b"]
    assert rollback(store, source, "b is bad too", run_id="r2").version == "a"


def test_a_rollback_that_was_not_written_down_counts_and_the_next_move_writes_it_down(
    store: Store, source: str, interrupted: Pointer
) -> None:
    found = withdrawal(store, source, "c")
    assert found is not None
    assert found.number == interrupted.number
    assert rollback(store, source, "b is bad too").version == "a"
    assert trail(store, source) == ["a", "b", "c", "b", "a"]


def test_a_promotion_that_was_interrupted_is_done_when_its_run_asks_again(store: Store, source: str) -> None:
    put_version(store, source, "a")
    with pytest.raises(KeyboardInterrupt):
        promote(DiesAfter(store.settings), source, "a", "better", None, run_id="r1")
    assert promote(store, source, "a", "better", None, run_id="r1") == champion(store, source)
    assert trail(store, source) == ["a"]
    with pytest.raises(PromotionConflict):
        promote(store, source, "a", "better", None, run_id="r2")


def test_entries_written_before_rollbacks_were_told_apart_still_bind(
    store: Store, source: str, crown: Callable[..., Pointer]
) -> None:
    crown("a")
    old = read_audit(store, source)[0]
    store.put(audit_key(source, 1), old.model_dump_json(exclude={"pointer": {"restores", "run_id"}}).encode())
    crown("b")
    assert trail(store, source) == ["a", "b"]
    assert rollback(store, source, "bad").version == "a"
