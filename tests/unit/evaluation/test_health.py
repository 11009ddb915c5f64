"""Health from hours made by hand: what degrades a champion, what is said of it, and when it ends."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from lib.gate_lake import make_contract

from liftloop.evaluation.bounds import decision_fault
from liftloop.evaluation.course import Charted, Course
from liftloop.evaluation.decision_value import DecisionValue
from liftloop.evaluation.health import Judgement, judge_health
from liftloop.evaluation.records import Fault
from liftloop.stats.interval import Interval

CONTRACT = make_contract("s", gate={"resamples": 300, "minimum_rewards": 100})
FIRST = datetime(2026, 3, 2, tzinfo=UTC)
WEEKS = 21 * 24  # hours of history before anything happens
DAY = timedelta(days=1)


def make_hours(hours: int, *, version: str = "v1", seed: int = 5) -> pd.DataFrame:
    """A healthy champion: 100 rewards an hour, with a little noise and a rhythm that its predictions share."""
    rng = np.random.default_rng(seed)
    hour = np.arange(hours)
    rewards = 100 * np.exp(0.3 * np.sin(2 * np.pi * hour / 24) + rng.normal(0, 0.05, hours))
    columns = {
        "impressions": np.full(hours, 5_000.0),
        "rewards": rewards,
        "predicted": rewards * np.exp(rng.normal(0, 0.05, hours)),
        "log_loss": 0.085 * 5_000 * rewards / 100,
        "concordance": rewards * (0.7 + rng.normal(0, 0.01, hours)),
        "ranked": rewards,
    }
    times = [FIRST + timedelta(hours=int(each)) for each in hour]
    return pd.DataFrame(columns).assign(hour=pd.to_datetime(times), version=version)


@dataclass
class Source:
    """Evaluates hour after hour, and keeps what would be on record."""

    hours: pd.DataFrame
    version: str = "v1"
    points: dict[str, list[Charted]] = field(default_factory=lambda: defaultdict(list))
    disturbed: dict[str, dict[datetime, datetime]] = field(default_factory=lambda: defaultdict(dict))
    ongoing: dict[str, Fault] = field(default_factory=dict)

    def evaluate(self, hour: int, window_hours: int = 24) -> Judgement:
        until = FIRST + timedelta(hours=hour)
        course = Course(self.hours.iloc[:hour], self.points, self.disturbed, self.ongoing)
        judged = judge_health(CONTRACT, course, self.version, until - timedelta(hours=window_hours), until)
        for point in judged.points:
            self.points[point.chart].append((self.version, point))
        for fault in judged.faults:
            self.disturbed[fault.name][fault.since] = until
        self.ongoing = {fault.name: fault for fault in judged.faults}
        return judged

    def evaluate_days(self, first: int, last: int) -> list[Judgement]:
        return [self.evaluate(hour) for hour in range(first, last + 1, 24)]


def changed(name: str, factor: float, since: int, until: int | None = None) -> pd.DataFrame:
    hours = make_hours(WEEKS + 35 * 24)
    hours.loc[since : (until or len(hours)) - 1, name] *= factor
    return hours


@pytest.mark.parametrize(
    ("name", "factor", "fault", "words"),
    [
        (
            "predicted",
            1.3,
            "calibration",
            "Observed over predicted rewards in the 24 hours before 2026-03-24 00:00: 0.7",
        ),
        ("rewards", 1.3, "calibration", "Observed over predicted rewards"),
        ("predicted", 1.3, "prediction", "The mean prediction in the 24 hours before 2026-03-24 00:00: 2."),
        ("concordance", 0.9, "ranking", "The area under the ROC curve in the 24 hours before 2026-03-24 00:00: 0.6"),
    ],
)
def test_each_fault_is_found_within_a_day_and_named(name: str, factor: float, fault: str, words: str) -> None:
    source = Source(changed(name, factor, WEEKS))
    assert all(judged.health == "healthy" for judged in source.evaluate_days(24, WEEKS))
    judged = source.evaluate(WEEKS + 24)
    assert judged.health == "degraded"
    (finding,) = [each for each, of in zip(judged.findings, judged.faults, strict=True) if of.name == fault]
    assert finding.startswith(words)
    assert finding.endswith("Since 2026-03-23 00:00.")
    assert "standard deviations of a day" in finding


def test_a_better_ranking_is_no_fault() -> None:
    source = Source(changed("concordance", 1.1, WEEKS))
    assert {judged.health for judged in source.evaluate_days(24, WEEKS + 72)} == {"healthy"}


def test_a_rhythm_is_no_fault_and_an_hour_is_none() -> None:
    source = Source(changed("predicted", 4.0, WEEKS + 5, WEEKS + 6))
    assert {judged.health for judged in source.evaluate_days(24, WEEKS)} == {"healthy"}
    assert source.evaluate(WEEKS + 8, window_hours=8).health == "healthy"
    assert source.evaluate(WEEKS + 24).health == "healthy"


def test_a_fault_is_new_once_and_lasts_while_it_lasts() -> None:
    source = Source(changed("predicted", 1.2, WEEKS, WEEKS + 10 * 24))
    source.evaluate_days(24, WEEKS)
    lasting = source.evaluate_days(WEEKS + 24, WEEKS + 10 * 24)
    faults = [{fault.name: fault for fault in judged.faults}["prediction"] for judged in lasting]
    assert [fault.is_new for fault in faults] == [True] + 9 * [False]
    assert {fault.since for fault in faults} == {FIRST + timedelta(hours=WEEKS)}
    assert lasting[-1].findings[0].endswith("This lasts since 2026-03-23 00:00.")
    after = source.evaluate_days(WEEKS + 11 * 24, WEEKS + 20 * 24)
    assert {judged.health for judged in after[2:]} == {"healthy"}


def test_what_was_charted_during_a_fault_is_no_past() -> None:
    source = Source(changed("predicted", 1.2, WEEKS, WEEKS + 5 * 24))
    source.evaluate_days(24, WEEKS + 12 * 24)
    newest = [point for chart, point in source.points["prediction"]][-1]
    assert newest.shift.value == pytest.approx(0, abs=0.03)


def test_a_new_version_starts_at_a_level_of_its_own() -> None:
    hours = changed("predicted", 1.2, WEEKS)
    hours.loc[WEEKS:, "version"] = "v2"
    source = Source(hours)
    source.evaluate_days(24, WEEKS)
    source.version, source.ongoing = "v2", {}
    first, second, *later = source.evaluate_days(WEEKS + 24, WEEKS + 6 * 24)
    assert first.points == ()
    assert {point.shift.days for point in second.points} == {1.0}
    assert {judged.health for judged in (first, second, *later)} == {"healthy"}
    assert all(point.signal for point in second.points)  # by the days of the version before


def test_without_history_it_says_what_is_missing() -> None:
    source = Source(make_hours(WEEKS))
    *_, judged = source.evaluate_days(24, 72)
    assert judged.findings[0] == "Predictions and decisions are within bounds."
    assert judged.findings[1].startswith("There is not enough on record yet to chart calibration, prediction, ranking")
    *_, judged = source.evaluate_days(96, WEEKS)
    assert judged.findings == ("Predictions and decisions are within bounds, and as in the same hours of past weeks.",)


def test_a_window_of_many_days_charts_each_of_them() -> None:
    judged = Source(make_hours(WEEKS)).evaluate(WEEKS, window_hours=WEEKS)
    assert len([point for point in judged.points if point.chart == "ranking"]) == 20
    assert judged.points[-1].signal is not None


def test_too_few_rewards_are_not_charted() -> None:
    hours = make_hours(WEEKS)
    hours["rewards"] /= 100
    assert Source(hours).evaluate(WEEKS).points == ()


def with_ratio(*days: float, hours: int = 24) -> Source:
    """Predicted over observed rewards on each day from the first, of a version without history."""
    table = make_hours(len(days) * hours)
    table["predicted"] = table["rewards"] * np.repeat(days, hours)
    return Source(table)


@pytest.mark.parametrize(
    ("days", "is_degraded"),
    [
        ((1.3,), False),  # one day is no persistence
        ((1.7,), True),  # beyond 1.25 squared
        ((0.6,), True),
        ((1.3, 1.3), True),
        ((1.3, 1.0, 1.3), True),
        ((1.3, 1.3, 1.0), False),  # over
        ((1.3, 1.0, 1.0, 1.3), False),
        ((1.2, 1.2, 1.2), False),
    ],
)
def test_two_of_three_days_out_of_bounds_degrade(days: tuple[float, ...], is_degraded: bool) -> None:
    judged = with_ratio(*days).evaluate(24 * len(days))
    assert ([fault.name for fault in judged.faults] == ["calibration bounds"]) is is_degraded


def test_a_few_hours_out_of_bounds_do_not_degrade() -> None:
    assert with_ratio(3.0, hours=5).evaluate(5).health == "healthy"
    assert with_ratio(3.0, hours=6).evaluate(6).health == "degraded"


def test_predictions_worse_than_the_mean_rate_degrade() -> None:
    source = Source(make_hours(72))
    source.hours["log_loss"] *= 1.3
    assert source.evaluate(24).health == "healthy"
    judged = source.evaluate(48)
    assert [fault.name for fault in judged.faults] == ["mean rate"]
    assert judged.findings[0].startswith("Normalized entropy, worse than the mean rate: 1.")
    assert not source.evaluate(72).faults[0].is_new


def test_a_source_with_few_rewards_has_longer_days() -> None:
    hours = make_hours(20 * 24)
    hours[["rewards", "predicted", "log_loss", "concordance", "ranked"]] /= 50
    hours["predicted"] *= 1.45
    judged = Source(hours).evaluate(20 * 24)
    (fault,) = judged.faults
    assert fault.name == "calibration bounds"
    assert (
        timedelta(days=4) < FIRST + 20 * DAY - fault.since < timedelta(days=8)
    )  # 50 rewards a day, 100 needed, thrice


def decision(is_below: bool, effective_sample_size: float = 5_000) -> DecisionValue:
    earned = Interval(0.7, 0.5, 0.9 if is_below else 1.4)
    logged = Interval(1.0, 0.95, 1.05)
    values = {"logged": logged, "self_normalized": earned, "doubly_robust": earned}
    return DecisionValue(impressions=9_000, effective_sample_size=effective_sample_size, **values)


@pytest.mark.parametrize(
    ("below", "hours_apart", "is_fault"),
    [
        ([True], 1, False),
        ([True, True], 1, True),
        ([True, False, True], 24, True),
        ([True, False, False], 24, False),
        ([True] * 16 + [False] * 8, 1, True),
        ([True] * 15 + [False] * 9, 1, False),
        ([True] * 30 + [False] * 24, 1, False),  # over for a day
    ],
)
def test_decisions_degrade_if_two_of_three_are_worth_less(below: list[bool], hours_apart: int, is_fault: bool) -> None:
    until = FIRST + 9 * DAY
    ends = [until - timedelta(hours=hours_apart * back) for back in reversed(range(len(below)))]
    decisions = [(end, decision(each)) for end, each in zip(ends, below, strict=True)]
    course = Course(make_hours(24), decisions=decisions)
    found = decision_fault(CONTRACT.gate, course, until)
    assert (found is not None) is is_fault
    unsure = Course(make_hours(24), decisions=[(end, decision(True, 150)) for end in ends])
    assert decision_fault(CONTRACT.gate, unsure, until) is None
