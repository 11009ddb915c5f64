"""Schedules of a contract: what it may say, and that Prefect's scheduler understands all of it."""

import re
from zoneinfo import available_timezones

import pytest
from lib.contracts import minimal_contract
from prefect.server.schemas.schedules import CronSchedule
from pydantic import ValidationError

from liftloop.contract.schedules import Schedules, Timing
from liftloop.contract.suite import reading_fingerprint

FIELDS = [
    ("0", "59", "*", "*/7", "5/15", "1-5", "1-50/2", "1,2,40-50", "00", "60", "-1", "5-1", "*/0", "1,,2", "", "x"),
    ("3", "*", "24", "h"),
    ("*", "1", "29", "31", "*/10", "30,31", "L", "LW", "32", "0"),
    ("*", "2", "jan", "FEB-APR", "4,6", "13", "january"),
    ("*", "0", "7", "mon", "SUN-SAT", "mon#2", "5L", "8", "2-1"),
]
DEFAULTS = ("30", "3", "*", "*", "*")
CRONS = [
    " ".join([*DEFAULTS[:place], text, *DEFAULTS[place + 1 :]]) for place, texts in enumerate(FIELDS) for text in texts
] + [f"30 3 {day} {month} {weekday}" for day in FIELDS[2] for month in FIELDS[3] for weekday in ("*", "mon", "mon#2")]


def next_start(cron: str, timezone: str) -> bool:
    """Whether Prefect's scheduler finds one."""
    return len([*CronSchedule(cron=cron, timezone=timezone)._get_dates_generator(n=1)]) == 1


def is_accepted(cron: str) -> bool:
    try:
        return Schedules(train=cron).train == cron
    except ValidationError:
        return False


def test_by_default_a_source_trains_daily_and_is_evaluated_hourly_at_minutes_of_its_own() -> None:
    timings = Schedules().timings("shop")
    assert re.fullmatch(r"\d+ 3 \* \* \* UTC", str(timings["train"]))
    assert re.fullmatch(r"\d+ \* \* \* \* UTC", str(timings["evaluate"]))
    assert timings == Schedules(train="daily", evaluate="hourly", timezone="UTC").timings("shop")
    crons = [timing.cron for source in range(60) for timing in Schedules().timings(f"s{source}").values()]
    assert max(map(crons.count, crons)) <= 5
    assert len(set(crons)) > 60


def test_a_schedule_is_a_cron_or_a_word_or_none() -> None:
    schedules = Schedules(train="none", evaluate=" 5  4 * * mon-fri ", timezone="Europe/Berlin")
    assert schedules.timings("shop") == {"evaluate": Timing(cron="5 4 * * mon-fri", timezone="Europe/Berlin")}


def test_prefect_understands_every_cron_that_a_contract_may_have() -> None:
    accepted = [cron for cron in CRONS if is_accepted(cron)]
    assert 50 < len(accepted) < len(CRONS) - 50
    assert [cron for cron in accepted if not next_start(cron, "UTC")] == []


@pytest.mark.parametrize(
    "cron", ["0 3 30 2 *", "0 3 31 4,6 mon", "0 3 * * * *", "0 3 1 * mon#2", "@daily", "r 3 * * *", ""]
)
def test_a_cron_that_prefect_would_never_start_or_misread_is_refused(cron: str) -> None:
    assert not is_accepted(cron)


@pytest.mark.slow
def test_prefect_knows_every_zone_that_a_contract_may_have() -> None:
    accepted = available_timezones() - {"Factory", "localtime"}
    assert Schedules(timezone="Europe/Berlin").timezone in accepted
    assert [zone for zone in sorted(accepted) if not next_start("0 3 * * *", Schedules(timezone=zone).timezone)] == []


@pytest.mark.parametrize("zone", ["Factory", "localtime", "Mars/Olympus", "CEST"])
def test_other_zones_are_refused(zone: str) -> None:
    with pytest.raises(ValidationError, match="IANA name such as UTC"):
        Schedules(timezone=zone)


def test_changed_schedules_re_read_no_file() -> None:
    changed = minimal_contract(schedules={"train": "none", "evaluate": "daily", "timezone": "Asia/Tokyo"})
    assert reading_fingerprint(changed) == reading_fingerprint(minimal_contract())
    other = minimal_contract(deduplicate_by=["ad_id"])
    assert reading_fingerprint(other) != reading_fingerprint(minimal_contract())
