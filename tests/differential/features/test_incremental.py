"""Tiles and feature tables after any history of arrivals, corrections and deletions, against a rebuild from nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lib.feature_lake import impression, make_contract, write_lake

from liftloop.contract.contract import Contract
from liftloop.features.partition_index import Index
from liftloop.features.tiles import update_tiles
from liftloop.features.windows import update_feature_tables
from liftloop.storage.keys import features_index_key, impressions_prefix, tiles_index_key
from liftloop.storage.runs import Step
from liftloop.storage.store import Store

FIRST = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 11
HORIZON_DAYS = 1
PARTS = 2  # files of a day

Rows = list[dict[str, Any]]

served = st.builds(
    lambda hour, minute: timedelta(hours=hour, minutes=minute), st.integers(0, 23), st.sampled_from([0, 30])
)
delays = st.sampled_from([timedelta(0), timedelta(minutes=40), timedelta(hours=20), timedelta(days=HORIZON_DAYS)])


@dataclass(frozen=True)
class Change:
    """What happens to one file of the lake: it comes or is replaced, or goes (no rows)."""

    day: int
    part: int
    rows: tuple[tuple[timedelta, timedelta, str, int], ...]

    def impressions(self) -> Rows:
        start = FIRST + timedelta(days=self.day)
        return [
            impression(start + after, start + after + delay, user_id=user, click=click)
            for after, delay, user, click in self.rows
        ]


row = st.tuples(served, delays, st.sampled_from(["u0", "u1", "u2"]), st.integers(0, 1))
changes = st.builds(Change, st.integers(0, DAYS - 1), st.integers(0, PARTS - 1), st.lists(row, max_size=3).map(tuple))
histories = st.lists(st.lists(changes, min_size=1, max_size=4), min_size=2, max_size=4)


def new_contract() -> Contract:
    return make_contract(f"log_{uuid4().hex[:12]}", horizon=f"{HORIZON_DAYS}d", keys=("user_id",))


def update(store: Store, contract: Contract) -> list[Step]:
    return [step(store, contract) for step in (update_tiles, update_feature_tables)]


def apply(store: Store, contract: Contract, change: Change) -> None:
    day = (FIRST + timedelta(days=change.day)).date()
    if change.rows:
        write_lake(store, contract, change.impressions(), f"part-{change.part}")
    else:
        store.delete([f"{impressions_prefix(contract.source)}date={day}/part-{change.part}.parquet"])


def contents(store: Store, contract: Contract) -> dict[str, str]:
    """The hash of every tile and every feature object."""
    items = [item for table in ("tiles", "features") for item in store.list(f"{table}/{contract.source}/")]
    return {item.key.replace(contract.source, ""): item.etag for item in items if item.key.endswith(".parquet")}


def rebuilt(store: Store, contract: Contract) -> dict[str, str]:
    """The same from nothing, of the same lake."""
    store.delete([item.key for table in ("tiles", "features") for item in store.list(f"{table}/{contract.source}/")])
    update(store, contract)
    return contents(store, contract)


def days_of(step: Step) -> set[date]:
    return {date.fromisoformat(ref.key.split("date=")[1][:10]) for ref in step.outputs}


def reached(touched: set[int], lookback: int) -> set[date]:
    return {(FIRST + timedelta(days=day + step)).date() for day in touched for step in range(lookback + 1)}


@settings(max_examples=5, deadline=None)
@given(histories)
def test_any_history_ends_where_a_rebuild_does(store: Store, history: list[list[Change]]) -> None:
    contract = new_contract()
    write_lake(store, contract, [impression(FIRST + timedelta(days=DAYS))], "newest")  # so that the last day stays
    update(store, contract)
    for batch in history:
        for change in batch:
            apply(store, contract, change)
        tiles, tables = update(store, contract)
        touched = {change.day for change in batch}
        assert days_of(tiles) <= reached(touched, HORIZON_DAYS)
        assert days_of(tables) <= reached(touched, HORIZON_DAYS + 8)
    assert contents(store, contract) == rebuilt(store, contract) != {}


def damaged_index(store: Store, contract: Contract) -> None:
    store.put(tiles_index_key(contract.source), b"not an index")


def lost_indexes(store: Store, contract: Contract) -> None:
    store.delete([tiles_index_key(contract.source), features_index_key(contract.source)])


def lost_partition(store: Store, contract: Contract) -> None:
    store.delete([f"tiles/{contract.source}/user_id/date=2026-03-01/tiles.parquet"])


def overwritten_partition(store: Store, contract: Contract) -> None:
    store.put(f"features/{contract.source}/user_id/date=2026-03-02/features.parquet", b"nonsense")


def stray_partition(store: Store, contract: Contract) -> None:
    store.put(f"tiles/{contract.source}/user_id/date=2020-01-01/tiles.parquet", b"nonsense")


@pytest.mark.parametrize("spoil", [damaged_index, lost_indexes, lost_partition, overwritten_partition, stray_partition])
def test_what_was_spoiled_behind_our_back_is_mended(store: Store, spoil: Callable[[Store, Contract], None]) -> None:
    contract = new_contract()
    write_lake(store, contract, [impression(FIRST + timedelta(days=day)) for day in range(3)])
    update(store, contract)
    expected = contents(store, contract)
    spoil(store, contract)
    built = sum(step.metrics["partitions_built"] for step in update(store, contract))
    assert contents(store, contract) == expected
    assert built == (1 if spoil in (lost_partition, overwritten_partition) else 0)
    assert all(step.is_reused for step in update(store, contract))


def test_an_update_that_was_killed_before_it_wrote_the_index(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = new_contract()
    old = [impression(FIRST + timedelta(days=day)) for day in range(3)]
    write_lake(store, contract, old)
    update(store, contract)
    before = contents(store, contract)
    write_lake(store, contract, [old[1] | {"user_id": "u7"}])
    with monkeypatch.context() as patch:
        patch.setattr(Index, "with_changes", _killed)
        with pytest.raises(KeyboardInterrupt):
            update_tiles(store, contract)
    write_lake(store, contract, old)  # the correction is taken back, and the tiles are the killed update's
    update(store, contract)
    assert contents(store, contract) == before


def _killed(*_: object) -> None:
    raise KeyboardInterrupt
