"""The course of evaluations, put together from what is on record."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lib.gate_lake import make_contract, make_rows
from lib.memory_store import MemoryStore

from liftloop.evaluation.course import HISTORY, Course, hours_on_record, read_evaluations
from liftloop.evaluation.evaluate import write_evaluation
from liftloop.evaluation.hours import SUMS, hour_sums
from liftloop.evaluation.records import ChampionScore, Evaluation, Fault, HourSums, Point
from liftloop.evaluation.rewards import RewardSample, Score
from liftloop.stats.control_chart import Shift
from liftloop.stats.interval import Interval
from liftloop.stats.scoring import area_under_roc, log_loss

FIRST = datetime(2026, 3, 1, tzinfo=UTC)
NOTHING = Interval(0, 0, 0)


def sums(hour: int, rewards: float) -> HourSums:
    figures = {"impressions": 10 * rewards, "predicted": 2 * rewards, "log_loss": 1, "concordance": 1, "ranked": 1}
    return HourSums(hour=FIRST + timedelta(hours=hour), rewards=rewards, **figures)


def evaluation(end: float, version: str | None = "v1", hours: tuple[HourSums, ...] = (), **values: Any) -> Evaluation:
    until = FIRST + timedelta(hours=end)
    score = Score(log_loss=NOTHING, normalized_entropy=NOTHING)
    figures = {"impressions": 9, "score": score, "calibration_ratio": NOTHING, "reliability": (), "decisions": None}
    champion = ChampionScore(version=version, hours=hours, **figures) if version else None
    known = {"source": "s", "since": until - timedelta(hours=1), "until": until, "health": "healthy", "findings": ()}
    return Evaluation.model_validate(known | {"champion": champion} | values)


def on_record(*evaluations: Evaluation) -> list[tuple[int, str, float]]:
    table = hours_on_record(evaluations)
    hours = (table["hour"] - pd.Timestamp(FIRST)) // pd.Timedelta(hours=1)
    return list(zip(hours, table["version"], table["rewards"], strict=True))


def test_hours_of_two_windows_are_added_and_late_ones_replace_what_was_there() -> None:
    first = evaluation(1.5, hours=(sums(0, 3), sums(1, 2)))
    second = evaluation(2.5, hours=(sums(1, 4), sums(2, 1)))
    assert on_record(first, second) == [(0, "v1", 3), (1, "v1", 6), (2, "v1", 1)]
    third = evaluation(3, hours=(sums(2, 5),), late_hours=(sums(0, 9), sums(2, 2)))
    assert on_record(first, second, third) == [(0, "v1", 9), (1, "v1", 6), (2, "v1", 7)]


def test_each_version_has_hours_of_its_own() -> None:
    found = on_record(evaluation(1, hours=(sums(0, 3),)), evaluation(2, None), evaluation(2, "v2", (sums(0, 4),)))
    assert found == [(0, "v1", 3), (0, "v2", 4)]
    assert on_record(evaluation(1, None)) == []


def test_a_fault_goes_on_with_its_version_alone() -> None:
    fault = Fault(name="ranking", since=FIRST, words="It ranks worse.")
    earlier = [evaluation(24, faults=(fault,)), evaluation(25, faults=(fault,)), evaluation(26)]
    assert Course.of(earlier[:2], evaluation(26)).ongoing == {"ranking": fault}
    assert Course.of(earlier[:2], evaluation(26, "v2")).ongoing == {}
    assert Course.of(earlier, evaluation(27)).ongoing == {}
    assert Course.of([], evaluation(27)).ongoing == {}
    assert Course.of(earlier, evaluation(27)).disturbed == {"ranking": {FIRST: FIRST + timedelta(hours=25)}}


def test_a_lasting_fault_is_announced_once() -> None:
    new = Fault(name="ranking", since=FIRST, words="It ranks worse.")
    old = Fault(name="calibration", since=FIRST, words="It promises too much.", is_new=False)
    assert evaluation(1, faults=(new, old), health="degraded").announced == "degraded"
    assert evaluation(1, faults=(old,), health="degraded").announced is None
    assert evaluation(1).announced == "healthy"
    assert evaluation(1, None, health="no_champion").announced is None


def test_points_of_all_versions_are_in_the_course() -> None:
    point = Point(chart="ranking", until=FIRST, shift=Shift(1.0, 1.0, (0.0,), 1.0), signal=None)
    course = Course.of([evaluation(1, points=(point,)), evaluation(2, "v2", points=(point,))], evaluation(3, "v2"))
    assert course.points == {"ranking": [("v1", point), ("v2", point)]}


def test_only_the_newest_weeks_are_read() -> None:
    store, weeks = MemoryStore(), HISTORY / timedelta(hours=1)
    assert read_evaluations(store, "s") == []
    written = [evaluation(end) for end in (0, 1, 2, 1 + weeks)]
    for each in written:
        write_evaluation(store, each)
    assert read_evaluations(store, "s") == written[1:]


@pytest.mark.parametrize("kept", [1.0, 0.25])
def test_hour_sums_are_those_of_each_hour_alone(kept: float) -> None:
    contract = make_contract("s", outcome={"delay": "10m", "horizon": "1h", "negatives_kept": kept})
    rows = pd.DataFrame(make_rows(0, days=1))
    reward = rows["click"].to_numpy(dtype=np.float64)
    probability = np.random.default_rng(1).uniform(0.01, 0.4, len(rows))
    sample = RewardSample.of(contract, rows, reward)
    found = hour_sums(rows["event_timestamp"], sample, probability, represented=len(rows))
    doubled = hour_sums(rows["event_timestamp"], sample, probability, represented=2 * len(rows))
    assert [each.predicted for each in doubled] == pytest.approx([2 * each.predicted for each in found])
    assert [each.hour for each in found] == [FIRST + timedelta(hours=hour) for hour in range(24)]
    for each in found:
        of_hour = (rows["event_timestamp"].dt.hour == each.hour.hour).to_numpy()
        clicked, predicted = reward[of_hour], probability[of_hour]
        weight = np.where(clicked > 0, 1, 1 / kept)
        assert each.impressions == pytest.approx(weight.sum())
        assert each.rewards == each.ranked == clicked.sum()
        assert each.predicted == pytest.approx((weight * predicted).sum())
        losses = [log_loss([one], [other]) for one, other in zip(clicked, predicted, strict=True)]
        assert each.log_loss == pytest.approx((weight * losses).sum())
        assert each.concordance == pytest.approx(clicked.sum() * area_under_roc(clicked, predicted))


def test_an_hour_without_pairs_to_compare_has_no_ranking() -> None:
    rows = pd.DataFrame(make_rows(0, days=1))
    reward = (rows["event_timestamp"].dt.hour > 0).to_numpy(dtype=np.float64)
    sample = RewardSample.of(make_contract("s"), rows, reward)
    for each in hour_sums(rows["event_timestamp"], sample, np.full(len(rows), 0.1), represented=len(rows)):
        assert (each.ranked, each.concordance) == (0, 0)
        assert set(SUMS) < set(HourSums.model_fields)
