"""Rollback on a real object store: against others at once, and across crashes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Barrier

import pytest
from lib.model_versions import crown_in_turn, put_version

from liftloop.registry.promotion import PromotionConflict, promote, read_audit
from liftloop.registry.registry import Registry
from liftloop.registry.rollback import rollback, withdrawal
from liftloop.registry.versions import Pointer
from liftloop.storage.store import Head, Store

CONTENDERS = 8


@pytest.fixture
def crown(store: Store, source: str) -> Callable[..., Pointer]:
    return partial(crown_in_turn, store, source)


def trail(store: Store, source: str) -> list[str]:
    return [entry.pointer.version for entry in read_audit(Registry(store, source))]


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
            return rollback(Registry(own, source), "clicks fell")
        except PromotionConflict as conflict:
            return conflict

    with ThreadPoolExecutor(CONTENDERS) as pool:
        results = list(pool.map(contend, stores))
    (winner,) = [result for result in results if isinstance(result, Pointer)]
    losers = [str(result) for result in results if isinstance(result, PromotionConflict)]
    assert len(losers) == CONTENDERS - 1
    assert all("moved in the meantime and now is b since" in loser for loser in losers)
    assert Registry(store, source).champion() == winner
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
        rollback(Registry(DiesAfter(store.settings, last=holder.number), source), "clicks fell", run_id="r1")
    pointer = Registry(store, source).champion()
    assert pointer is not None
    assert (pointer.version, trail(store, source)) == ("b", ["a", "b", "c"])
    return pointer


def test_the_run_that_was_interrupted_rolls_back_once(store: Store, source: str, interrupted: Pointer) -> None:
    again = rollback(Registry(store, source), "clicks fell", run_id="r1")
    assert again.number == interrupted.number
    assert rollback(Registry(store, source), "clicks fell", run_id="r1").number == interrupted.number
    assert trail(store, source) == ["a", "b", "c", "b"]
    assert rollback(Registry(store, source), "b is bad too", run_id="r2").version == "a"


def test_a_rollback_that_was_not_written_down_counts_and_the_next_move_writes_it_down(
    store: Store, source: str, interrupted: Pointer
) -> None:
    found = withdrawal(Registry(store, source), "c")
    assert found is not None
    assert found.number == interrupted.number
    assert rollback(Registry(store, source), "b is bad too").version == "a"
    assert trail(store, source) == ["a", "b", "c", "b", "a"]


def test_a_promotion_that_was_interrupted_is_done_when_its_run_asks_again(store: Store, source: str) -> None:
    put_version(store, source, "a")
    with pytest.raises(KeyboardInterrupt):
        promote(Registry(DiesAfter(store.settings), source), "a", "better", None, run_id="r1")
    assert promote(Registry(store, source), "a", "better", None, run_id="r1") == Registry(store, source).champion()
    assert trail(store, source) == ["a"]
    with pytest.raises(PromotionConflict):
        promote(Registry(store, source), "a", "better", None, run_id="r2")
