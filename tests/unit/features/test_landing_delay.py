"""The landing delay of logs that land in different ways, and which entries of the ledger it is measured from."""

from datetime import UTC, datetime, timedelta

import pytest
from lib.contracts import minimal_contract
from lib.memory_store import MemoryStore

from liftloop.features.landing_delay import Landing, LandingDelay, hours_behind, measure_landing_delay
from liftloop.lake.ledger import Entry, write_entry
from liftloop.storage.store import ObjectRef

HOUR, DAY, MINUTE = timedelta(hours=1), timedelta(days=1), timedelta(minutes=1)
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
AT_ONCE = timedelta(0)


def files(count: int, every: timedelta, late: timedelta = timedelta(0), start: datetime = FIRST) -> list[Landing]:
    """Files that hold the events of one period each, and land some time after it ended."""
    ends = [start + number * every for number in range(1, count + 1)]
    return [(end + late, end) for end in ends]


def test_files_of_each_hour_are_their_lateness_and_half_an_hour_old() -> None:
    assert hours_behind(files(48, HOUR), AT_ONCE) == 1
    assert hours_behind(files(48, HOUR, late=30 * MINUTE), AT_ONCE) == 1
    assert hours_behind(files(48, HOUR, late=31 * MINUTE), AT_ONCE) == 2
    assert hours_behind(files(48, HOUR, late=20 * MINUTE), 15 * MINUTE) == 2


def test_files_of_each_day_are_half_a_day_old() -> None:
    assert hours_behind(files(10, DAY), AT_ONCE) == 12
    assert hours_behind(files(10, DAY, late=10 * MINUTE), AT_ONCE) == 13
    assert hours_behind(files(10, DAY, late=6 * HOUR), AT_ONCE) == 18


def test_files_of_each_minute_are_rounded_up_to_an_hour() -> None:
    steady = files(24 * 60 + 1, MINUTE, late=-MINUTE)
    assert hours_behind(steady, AT_ONCE) == 1  # half a minute
    assert hours_behind([(at, at + HOUR) for at, _ in steady], AT_ONCE) == 1  # no event is known before it happens


def test_a_bulk_load_says_nothing_and_a_live_log_after_it_counts_alone() -> None:
    loaded = FIRST + 100 * DAY
    bulk = [(loaded + number * timedelta(seconds=1), FIRST + number * DAY) for number in range(100)]
    assert hours_behind(bulk, AT_ONCE) is None
    live = files(48, HOUR, start=loaded + timedelta(minutes=5))
    assert hours_behind(bulk + live, AT_ONCE) == 1


def test_old_files_that_are_loaded_over_days_are_no_live_log() -> None:
    assert hours_behind([(at, event - 30 * DAY) for at, event in files(20, DAY)], AT_ONCE) is None


def test_less_than_a_day_is_not_measured() -> None:
    assert hours_behind([], AT_ONCE) is None
    assert hours_behind(files(24, HOUR), AT_ONCE) is None
    assert hours_behind(files(25, HOUR), AT_ONCE) == 1


def test_an_outage_of_days_does_not_count_for_the_weeks_around_it() -> None:
    before, after = files(24 * 8, HOUR), files(24 * 8, HOUR, start=FIRST + 12 * DAY)
    assert hours_behind(before + after, AT_ONCE) == 1


def test_the_newest_two_weeks_count() -> None:
    daily = files(60, DAY)
    hourly = files(24 * 15, HOUR, start=daily[-1][0])
    assert hours_behind(daily + hourly, AT_ONCE) == 1
    assert (
        hours_behind(daily + hourly[: 24 * 5], AT_ONCE) == 6
    )  # of nine days by the day, two in nine hours are younger


@pytest.mark.parametrize("order", [1, -1])
def test_late_files_change_nothing_once_newer_ones_are_known(order: int) -> None:
    late = [(FIRST + 30 * HOUR, FIRST + 2 * HOUR), (FIRST + 40 * HOUR, FIRST)]
    assert hours_behind((files(48, HOUR) + late)[::order], AT_ONCE) == 1


# From the ledger


def entry(number: int, landing: Landing | None, key: str = "a.parquet") -> Entry:
    at, event = landing or (None, None)
    landed = ObjectRef(f"landing/shop/{key}", "0" * 64, 1)
    return Entry(object_id=f"{number:024}", landed=landed, landed_at=at, newest_event=event, status="ingested")


def store_of(*entries: Entry) -> MemoryStore:
    store = MemoryStore()
    for each in entries:
        write_entry(store, "shop", each, is_held=False)
    return store


def test_it_is_measured_from_the_ledger_with_the_contracts_freshness_on_top() -> None:
    store = store_of(*(entry(number, each) for number, each in enumerate(files(10, DAY))))
    assert measure_landing_delay(store, minimal_contract()) == LandingDelay(hours=13, origin="measured")
    at_once = minimal_contract(freshness="0m")
    assert str(measure_landing_delay(store, at_once)) == "12 h (measured)"


def test_a_contract_overrides_it_and_can_be_given_one() -> None:
    store = store_of(*(entry(number, each) for number, each in enumerate(files(10, DAY))))
    assert str(measure_landing_delay(store, minimal_contract(landing_delay="5h"))) == "5 h (contract)"
    assert measure_landing_delay(store, minimal_contract(landing_delay="0h")).hours == 0
    pinned = LandingDelay(hours=7).pinned(minimal_contract())
    assert measure_landing_delay(store, pinned).hours == 7


def test_entries_of_earlier_releases_and_an_empty_ledger_measure_nothing() -> None:
    for store in (MemoryStore(), store_of(*(entry(number, None) for number in range(40)))):
        assert str(measure_landing_delay(store, minimal_contract())) == "0 h (not measured)"


def test_outcomes_that_land_later_than_their_impressions_are_what_counts() -> None:
    columns = {"impression_id": {"from": "id"}, "click": {"constant": 1}, "outcome_timestamp": {"from": "at"}}
    clicks = {"path": "clicks/{day}.parquet", "format": "parquet", "columns": columns}
    shown = {name: {"from": name} for name in ("impression_id", "event_timestamp", "placement_id", "ad_id")}
    contract = minimal_contract(outcome_files={"clicks": clicks}, columns=shown, freshness="0m")
    hourly = [entry(number, each) for number, each in enumerate(files(72, HOUR))]
    daily = [entry(100 + number, each, "clicks/1.parquet") for number, each in enumerate(files(5, DAY))]
    assert measure_landing_delay(store_of(*hourly), contract).hours == 1
    assert measure_landing_delay(store_of(*hourly, *daily), contract).hours == 12
