"""What a version brings with it: old data, leaking columns, slow or large models, logs that say little of it."""

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lib.gate_lake import make_contract, make_rows

from liftloop.contract.sections import GatePolicy
from liftloop.evaluation.rewards import RewardSample
from liftloop.gate.checks import inputs
from liftloop.gate.checks.decisions import overlap_faults, unsupported_mass
from liftloop.gate.checks.inputs import check_freshness, check_leakage, sampled
from liftloop.gate.checks.readiness import FreshRun, check_latency
from liftloop.gate.specifications import Specification, prediction_checks
from liftloop.stats.interval import Interval
from liftloop.stats.overlap import Overlap
from liftloop.storage.store import ObjectRef
from liftloop.training.constraints import raw_columns

CONTRACT = make_contract("s")
HOLDOUT = pd.DataFrame(make_rows(0, days=2))
OUTCOMES = RewardSample.of(CONTRACT, HOLDOUT, HOLDOUT["click"].to_numpy(dtype=float))


def history() -> pd.DataFrame:
    """Honest window features: what was known of each user and ad before the impression."""
    rows = {}
    for key in ("user_id", "ad_id"):
        past = HOLDOUT.groupby(key)["click"]
        rows[f"{key}_clicks"] = past.cumsum() - HOLDOUT["click"]
        rows[f"{key}_rate"] = rows[f"{key}_clicks"] / past.cumcount().where(lambda count: count > 0)
    return pd.DataFrame(rows)


def seen(**planted: Any) -> pd.DataFrame:
    columns = HOLDOUT[[name for name in raw_columns(CONTRACT) if name in HOLDOUT]]
    return pd.concat([columns, history()], axis="columns").assign(**planted)


def test_honest_columns_raise_no_alarm() -> None:
    finding = check_leakage(OUTCOMES, seen())
    assert finding.verdict == "pass", finding
    assert {"user_id", "ad_id", "segment", "affinity", "category", "user_id_rate"} <= set(seen())
    assert "click" not in seen()


CLICK = HOLDOUT["click"]
NOISE = np.random.default_rng(0).random(len(HOLDOUT))


@pytest.mark.parametrize(
    "planted",
    [
        np.where(CLICK == 1, 30 * NOISE, np.nan),  # seconds to the click: missing exactly where there is none
        np.where(CLICK == 1, np.nan, NOISE),  # known of what was not clicked alone
        CLICK + 0.4 * NOISE,  # a number that is higher with a click
        np.where(NOISE < 0.03, 1 - CLICK, CLICK).astype(str),  # a category that is wrong now and then
        np.where((CLICK == 1) & (NOISE < 0.3), "landing page", "other"),  # seen after some clicks alone
    ],
    ids=["missing without", "missing with", "number", "category", "pure value"],
)
def test_a_leaking_column_is_named(planted: Any) -> None:
    finding = check_leakage(OUTCOMES, seen(dwell=planted))
    assert finding.verdict == "fail"
    assert "can hardly be known before it: dwell (" in finding.reason
    assert "Context: dwell; remove from `context`" in finding.reason
    assert "user_id_rate" not in finding.reason


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("advertiser_id", np.where(CLICK == 1, "won", "lost")),
        ("user_id", HOLDOUT["impression_id"].where(CLICK == 1)),  # read as known or not
    ],
)
def test_a_column_that_is_no_key_is_looked_at_too(column: str, values: Any) -> None:
    contract = make_contract("s", keys=["ad_id"])
    look: Any = SimpleNamespace(contract=contract, holdout=HOLDOUT.assign(**{column: values}), sample=OUTCOMES)
    checks: list[Specification[Any]] = prediction_checks(contract, is_champion=False)
    (leakage,) = [each for each in checks if each.id == "leakage"]
    finding = leakage.run(look)
    assert finding.verdict == "fail"
    assert f"before it: {column} (" in finding.reason
    assert f"Keys of the choice: {column}; look at `columns`" in finding.reason


def test_the_contract_says_how_well_a_column_may_predict() -> None:
    strict = replace(OUTCOMES, policy=GatePolicy(single_feature_auc=0.51))
    finding = check_leakage(strict, seen())
    assert finding.verdict == "fail"
    assert "segment (AUC 0." in finding.reason


def test_few_rewards_raise_no_alarm() -> None:
    few = RewardSample(np.where(np.cumsum(CLICK) <= 29, CLICK, 0).astype(float), OUTCOMES.blocks, OUTCOMES.policy, 1)
    assert check_leakage(few, seen(dwell=few.reward)).verdict == "not_applicable"


def test_the_alarm_reads_a_sample_of_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MAX_ROWS", 500)
    outcomes, rows = sampled(OUTCOMES, HOLDOUT)
    assert len(outcomes.reward) == len(rows) == 500
    assert (outcomes.reward == rows["click"]).all()


@pytest.mark.parametrize(("hours", "verdict"), [(0, "pass"), (48, "pass"), (49, "fail")])
def test_data_may_be_two_days_behind(hours: int, verdict: str) -> None:
    finding = check_freshness(CONTRACT, pd.Timedelta(hours=hours))
    assert finding.verdict == verdict
    assert f"{hours}.0 hours" in finding.reason
    stricter = CONTRACT.gate.model_copy(update={"stale_after": timedelta(0)})
    assert check_freshness(CONTRACT.model_copy(update={"gate": stricter}), pd.Timedelta(seconds=1)).verdict == "fail"


def test_a_slow_model_fails() -> None:
    fresh = FreshRun(sample=ObjectRef("k", "0" * 64, 1), scores=(0.1,), latency_p99_milliseconds=20.0)
    assert check_latency(GatePolicy(), fresh).verdict == "pass"
    slow = check_latency(GatePolicy(latency_p99_milliseconds=19.9), fresh)
    assert slow.verdict == "fail"
    assert "20.0 ms of CPU time" in slow.reason


GOOD = Overlap(5_000, Interval(1, 0.95, 1.05), clipped_share=0.0, largest_reward_share=0.05)


@pytest.mark.parametrize(
    ("changes", "unsupported", "fault"),
    [
        ({"effective_sample_size": 1_999}, 0.0, "the effective sample size is 1,999, below 2,000"),
        (
            {"mean_weight": Interval(0.8, 0.7, 0.89)},
            0.0,
            "the mean importance weight is 0.80 [0.70, 0.89], but 1 with true propensities",
        ),
        ({"mean_weight": Interval(1.2, 1.11, 1.3)}, 0.0, "the mean importance weight is 1.20"),
        ({"clipped_share": 0.011}, 0.0, "1.1% of the weights are clipped"),
        ({"largest_reward_share": 0.21}, 0.0, "a single impression carries 21% of the weighted rewards"),
        ({}, 0.051, "5.1% of the decisions have no support in the log"),
    ],
)
def test_each_failure_of_overlap_is_named(changes: dict[str, Any], unsupported: float, fault: str) -> None:
    faults = overlap_faults(GatePolicy(), replace(GOOD, **changes), unsupported)
    assert len(faults) == 1
    assert faults[0].startswith(fault)


def test_a_log_that_overlaps_has_no_fault() -> None:
    doubtful = replace(GOOD, effective_sample_size=2_000, mean_weight=Interval(0.85, 0.75, 0.91), clipped_share=0.01)
    assert overlap_faults(GatePolicy(), doubtful, 0.05) == []


def test_a_choice_counts_as_supported_where_the_log_shows_it_in_the_same_place() -> None:
    decisions = pd.DataFrame(
        {
            "placement_id": ["p0", "p0", "p1", "p1"],
            "ad_id": ["a", "b", "c", "c"],
            "chosen_ad_id": ["b", "c", "c", "a"],
            "row_weight": 1.0,
        }
    )
    assert unsupported_mass(CONTRACT, decisions) == 0.5
