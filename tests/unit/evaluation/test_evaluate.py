"""KPIs from rows made by hand, the order of evaluations, and their page."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lib.gate_lake import make_contract, make_rows

from liftloop.evaluation.kpi import KPI_COLUMNS, kpis_by_policy
from liftloop.evaluation.records import ChampionScore, Evaluation, Fault, Late, Point
from liftloop.evaluation.report import evaluation_page, kpi_rows
from liftloop.evaluation.rewards import Score
from liftloop.stats.control_chart import Shift, Signal
from liftloop.stats.interval import Interval
from liftloop.stats.scoring import ReliabilityBin

CONTRACT = make_contract("s")
ROWS = pd.DataFrame(make_rows(0, days=1))[list(KPI_COLUMNS)]


def test_kpis_are_what_they_are_called() -> None:
    kpis = kpis_by_policy(CONTRACT, ROWS)
    assert set(kpis) == {"all", "uniform", "first"}
    for policy, rows in [("all", ROWS), ("first", ROWS[ROWS["policy"] == "first"])]:
        found = kpis[policy]
        assert found.impressions == len(rows)
        assert found.click_through_rate is not None
        assert found.conversion_rate is not None
        assert found.revenue_per_mille is not None
        assert found.margin_per_mille is not None
        assert found.click_through_rate.estimate == pytest.approx(rows["click"].mean())
        assert found.conversion_rate.estimate == pytest.approx(rows["conversion"].sum() / rows["click"].sum())
        assert found.revenue_per_mille.estimate == pytest.approx(1000 * rows["revenue"].mean())
        assert found.margin_per_mille.estimate == pytest.approx(1000 * (rows["revenue"] - rows["cost"]).mean())
        assert found.click_through_rate.low < found.click_through_rate.estimate < found.click_through_rate.high


def test_what_a_source_does_not_report_has_no_kpi() -> None:
    columns = {name: column for name, column in CONTRACT.columns.items() if name not in {"conversion", "cost"}}
    kpis = kpis_by_policy(CONTRACT.model_copy(update={"columns": columns}), ROWS.assign(conversion=None, cost=np.nan))
    assert kpis["all"].conversion_rate is None
    assert kpis["all"].margin_per_mille is None
    assert kpis["all"].revenue_per_mille is not None


def test_where_no_interval_can_be_drawn_there_is_no_kpi() -> None:
    one_user = kpis_by_policy(CONTRACT, ROWS.assign(user_id="u", policy=None))
    assert one_user["all"].click_through_rate is None
    no_clicks = kpis_by_policy(CONTRACT, ROWS.assign(click=0, conversion=0, policy=None))
    assert no_clicks["all"].conversion_rate is None
    assert no_clicks["all"].click_through_rate == Interval(0, 0, 0)


def champion_score() -> ChampionScore:
    return ChampionScore(
        version="v1",
        impressions=9_000,
        score=Score(log_loss=interval(0.1, 0.2), normalized_entropy=interval(0.8, 0.9)),
        calibration_ratio=interval(0.9, 1.1),
        reliability=(ReliabilityBin(10, 0.1, 0.2),),
        decisions=None,
    )


def interval(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high)


UNTIL = datetime(2026, 1, 9, 23, tzinfo=UTC)


def evaluation(**values: Any) -> Evaluation:
    known = {"source": "s", "since": UNTIL - timedelta(days=1), "until": UNTIL, "impressions": 1500, "rewards": 100}
    known |= {"kpis": kpis_by_policy(CONTRACT, ROWS), "health": "healthy", "findings": ("All is <b>well</b>.",)}
    return Evaluation.model_validate(known | values)


def test_keys_sort_by_time() -> None:
    times = [UNTIL, UNTIL + timedelta(microseconds=1), UNTIL + timedelta(hours=2), UNTIL + timedelta(days=300)]
    keys = [evaluation(until=time).key for time in times]
    assert keys == sorted(set(keys))
    assert all(key.startswith("reports/s/evaluations/") for key in keys)


def test_an_evaluation_survives_json() -> None:
    whole = evaluation(champion=champion_score())
    assert Evaluation.model_validate_json(whole.model_dump_json()) == whole


def test_the_page_shows_findings_and_every_policy() -> None:
    whole = evaluation(champion=champion_score(), health="degraded")
    page = evaluation_page(CONTRACT, whole)
    assert "All is &lt;b&gt;well&lt;/b&gt;." in page
    assert all(word in page for word in ("degraded", "uniform", "first", "margin per mille", "The champion v1"))
    assert [row["policy"] for row in kpi_rows(whole.kpis)] == ["all", "first", "uniform"]


def test_the_page_of_a_source_without_champion() -> None:
    assert "The champion" not in evaluation_page(CONTRACT, evaluation(health="no_champion"))


def test_the_page_shows_what_was_late() -> None:
    late = Late(kind="changed", since=UNTIL, until=UNTIL, files=2, impressions=1500, rewards=1, kpis=evaluation().kpis)
    page = evaluation_page(CONTRACT, evaluation(late=(late,)))
    assert "KPIs of impressions that changed" in page
    assert "Evaluated again: 1,500 impressions with 1 click," in page


def charted(days: int, score: float | None = 1.0) -> Evaluation:
    until = UNTIL + timedelta(days=days)
    signal = None if score is None else Signal(score, score / 2, 4.0, is_persistent=True)
    point = Point(chart="ranking", until=until, shift=Shift(0.63, 0.7, (-0.1, -0.1, -0.1), 9.0), signal=signal)
    return evaluation(until=until, champion=champion_score(), points=(point,))


def test_the_page_shows_the_charts_and_their_course() -> None:
    fault = Fault(name="ranking", since=UNTIL, words="It ranks worse.")
    newest = charted(20, -5.0).model_copy(update={"faults": (fault,)})
    page = evaluation_page(CONTRACT, newest, [charted(day) for day in range(20)])
    assert all(word in page for word in ("0.630", "0.700", "-10.0%", "-5.0", "-2.5", "4.0", "too little on record"))
    assert "Course of the charts" in page
    assert "data:image/svg+xml" in page.partition("Course of the charts")[2].partition("The champion")[0]


def test_without_a_signal_there_is_no_course() -> None:
    page = evaluation_page(CONTRACT, charted(1, None))
    assert page.count("too little on record") == 3
    assert "Course of the charts" not in page
