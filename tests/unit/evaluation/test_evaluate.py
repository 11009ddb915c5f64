"""KPIs from rows made by hand, the health that follows from scores, and the order of evaluations."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lib.gate_lake import make_contract, make_rows

from liftloop.contract.sections import GatePolicy
from liftloop.evaluation.decision_value import DecisionValue
from liftloop.evaluation.evaluate import ChampionScore, Evaluation, judge_health
from liftloop.evaluation.kpi import KPI_COLUMNS, kpis_by_policy
from liftloop.evaluation.report import evaluation_page, kpi_rows
from liftloop.evaluation.rewards import Score
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


def champion_score(
    entropy: tuple[float, float] = (0.8, 0.9),
    ratio: tuple[float, float] = (0.9, 1.1),
    earned: tuple[float, float] = (0.9, 1.4),
    effective_sample_size: float = 5_000,
) -> ChampionScore:
    earns = interval(*earned)
    decisions = DecisionValue(
        impressions=9_000,
        logged=interval(0.95, 1.05),
        self_normalized=earns,
        doubly_robust=earns,
        effective_sample_size=effective_sample_size,
    )
    return ChampionScore(
        version="v1",
        impressions=9_000,
        score=Score(log_loss=interval(0.1, 0.2), normalized_entropy=interval(*entropy)),
        calibration_ratio=interval(*ratio),
        reliability=(ReliabilityBin(10, 0.1, 0.2),),
        decisions=decisions,
    )


def interval(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high)


@pytest.mark.parametrize(
    ("score", "finding"),
    [
        (champion_score(entropy=(1.01, 1.1)), "Predictions are worse than the mean rate"),
        (champion_score(ratio=(1.3, 1.6)), "Predicted / observed rewards = 1.45 [1.30, 1.60]"),
        (
            champion_score(earned=(0.5, 0.9)),
            "Decisions are worth less than the logged ones. Value relative to the logged decisions on 9,000"
            " impressions: SNIPS 70%",
        ),
    ],
)
def test_each_fault_degrades_and_is_named(score: ChampionScore, finding: str) -> None:
    health, findings = judge_health(GatePolicy(), score)
    assert health == "degraded"
    assert len(findings) == 1
    assert findings[0].startswith(finding)


@pytest.mark.parametrize(
    "score",
    [
        champion_score(),
        champion_score(entropy=(0.95, 1.2)),
        champion_score(ratio=(1.2, 1.6)),
        champion_score(earned=(0.5, 1.01)),
        champion_score(earned=(0.5, 0.9), effective_sample_size=499),
    ],
    ids=["good", "entropy", "ratio", "earned", "too little told"],
)
def test_a_doubt_does_not_degrade(score: ChampionScore) -> None:
    assert judge_health(GatePolicy(), score)[0] == "healthy"


def test_without_a_champion_there_is_no_health() -> None:
    assert judge_health(GatePolicy(), None)[0] == "no_champion"


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
    assert [row["policy"] for row in kpi_rows(whole)] == ["all", "first", "uniform"]


def test_the_page_of_a_source_without_champion() -> None:
    assert "The champion" not in evaluation_page(CONTRACT, evaluation(health="no_champion"))
