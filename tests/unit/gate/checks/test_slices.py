"""Slices and groups with faults planted in some of them."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from liftloop.contract.sections import GatePolicy
from liftloop.evaluation.rewards import RewardSample
from liftloop.gate.checks.groups import check_groups, group_table
from liftloop.gate.checks.slices import NAMED, check_slice_calibration, check_worst_slice
from liftloop.gate.verdict import CheckVerdict
from liftloop.stats.columns import Floats

ROWS = 1_500  # of each slice
RATES = np.random.default_rng(0).beta(1, 9, ROWS)


def sliced(names: list[str], seed: int = 1, **policy: Any) -> tuple[RewardSample, Floats, "pd.Series[str]"]:
    """Slices of equal truth, and rewards drawn from it."""
    truth = np.tile(RATES, len(names))
    reward = (np.random.default_rng(seed).random(len(truth)) < truth).astype(float)
    outcomes = RewardSample(reward, np.arange(len(truth)), GatePolicy(resamples=100, **policy), seed=1)
    return outcomes, truth, pd.Series(np.repeat(names, ROWS), name="site_id")


def test_every_slice_that_fails_is_named_and_no_other() -> None:
    outcomes, truth, values = sliced([f"s{n}" for n in range(8)])
    reversed_ = np.where(values.isin(["s2", "s5"]), np.clip(0.4 - truth, 0.001, 1), truth)
    finding = check_worst_slice(outcomes, reversed_, values)
    assert finding.verdict == "fail"
    assert "s2 (" in finding.reason
    assert "s5 (" in finding.reason
    assert not any(f"s{n} (" in finding.reason for n in (0, 1, 3, 4, 6, 7))


def test_only_so_many_are_named() -> None:
    outcomes, truth, values = sliced([f"s{n}" for n in range(8)])
    finding = check_worst_slice(outcomes, np.clip(0.4 - truth, 0.001, 1), values)
    assert f"and {8 - NAMED} more" in finding.reason


def test_among_many_slices_chance_alone_fails_none() -> None:
    """At the limit itself: uncorrected, the worst of 20 slices would fail every other time."""
    fails = 0
    doubts = 0
    for seed in range(30):
        outcomes, truth, values = sliced([f"s{n:02}" for n in range(20)], seed, slice_calibration_ratio=(0.5, 1.0))
        finding = check_slice_calibration(outcomes, truth, values)
        fails += finding.verdict == "fail"
        doubts += finding.verdict == "inconclusive"
    assert fails <= 4
    assert doubts >= 4


@pytest.mark.parametrize(("errors", "verdict"), [(6, "fail"), (2.3, "inconclusive"), (1, "pass"), (-20, "pass")])
@pytest.mark.parametrize("is_too_much", [True, False])
def test_a_slice_that_is_promised_too_much_or_too_little(
    errors: float, verdict: CheckVerdict, is_too_much: bool
) -> None:
    """So many standard errors beyond twice, or half, of what came."""
    outcomes, truth, values = sliced(["a", "b", "c"])
    came = outcomes.reward[ROWS : 2 * ROWS].sum()
    ratio = max(2 * np.exp(errors / np.sqrt(came)), 1)
    ratio = ratio if is_too_much else 1 / ratio
    predicted = np.where(values == "b", truth * ratio * came / RATES.sum(), truth)
    finding = check_slice_calibration(outcomes, predicted, values)
    assert finding.verdict == verdict, finding
    assert (f"b ({ratio:.2f})" in finding.reason) == (verdict == "fail")
    assert finding.values["calibration_ratio"].low < finding.values["calibration_ratio"].high


def test_a_slice_that_is_promised_much_and_gets_nothing_is_not_too_small_to_judge() -> None:
    outcomes, truth, values = sliced(["a", "b"])
    reward = np.where(values == "b", 0.0, outcomes.reward)
    finding = check_slice_calibration(RewardSample(reward, outcomes.blocks, outcomes.policy, 1), truth, values)
    assert finding.verdict == "fail"
    assert "b (" in finding.reason


def test_a_slice_of_a_single_block_is_not_judged() -> None:
    outcomes, truth, values = sliced(["a", "b"])
    blocks = np.where(values == "b", -1, outcomes.blocks)
    alone = RewardSample(outcomes.reward, blocks, outcomes.policy, 1)
    predicted = np.where(values == "b", np.clip(0.9 - truth, 0.001, 1), truth)
    for check in (check_worst_slice, check_slice_calibration):
        assert check(outcomes, predicted, values).verdict == "fail"
        assert check(alone, predicted, values).verdict == "pass"


def test_two_questions_share_the_chance_of_error() -> None:
    """A slice that is sure enough for one column is not for ten."""
    verdicts = []
    for columns in (1, 200):
        names = tuple(f"c{n}" for n in range(columns))
        outcomes, truth, values = sliced(["a"], slices=names)
        ratio = 2.0 * np.exp(2.3 / np.sqrt(outcomes.rewards))  # 2.3 standard errors above the limit of 2
        predicted = truth * ratio * outcomes.rewards / truth.sum()
        verdicts.append(check_slice_calibration(outcomes, predicted, values).verdict)
    assert verdicts == ["fail", "inconclusive"]


@pytest.mark.parametrize(("errors", "verdict"), [(6, "fail"), (2.1, "inconclusive"), (1, "pass"), (-20, "pass")])
@pytest.mark.parametrize("is_too_much", [True, False])
def test_groups_are_promised_alike(errors: float, verdict: CheckVerdict, is_too_much: bool) -> None:
    """So many standard errors beyond half as much again as the others are promised."""
    outcomes, truth, values = sliced(["women", "men", "others"], groups=("sex",), group_calibration_spread=1.5)
    rewards = pd.Series(outcomes.reward).groupby(values.to_numpy()).transform("sum").to_numpy()
    scale = max(1.5 * np.exp(errors * np.sqrt(1 / rewards[0] + 1 / rewards[ROWS])), 1)
    factor = scale if is_too_much else 1 / scale
    predicted = np.where(values == "men", factor, 1.0) * truth * rewards / RATES.sum()
    finding = check_groups(outcomes, predicted, values)
    assert finding.verdict == verdict, finding
    assert finding.figures["group_calibration_spread"] == pytest.approx(scale, rel=0.01)
    named = "men over women" if is_too_much else "women over men"
    assert (f"pairs: {named}" in finding.reason or f", {named}" in finding.reason) == (verdict == "fail")


def test_groups_that_share_their_users_are_compared_pair_by_pair() -> None:
    """Each user is in both groups and behaves alike there: the difference is surer than either of the two."""
    rng = np.random.default_rng(3)
    liked = rng.random(300) < 0.15
    reward = np.tile(liked.astype(float), 8)
    values = pd.Series(np.repeat(["a", "b"], 4 * 300), name="device")
    predicted = np.where(values == "a", 1.6, 1.0) * 0.15
    policy = GatePolicy(groups=("device",), group_calibration_spread=1.5)
    shared = RewardSample(reward, np.tile(np.arange(300), 8), policy, 1)
    apart = RewardSample(reward, np.tile(np.arange(300), 8) + 300 * (values == "a").to_numpy(), policy, 1)
    assert check_groups(shared, predicted, values).verdict == "fail"
    assert check_groups(apart, predicted, values).verdict == "pass"


def test_one_group_has_nobody_to_be_compared_with() -> None:
    outcomes, truth, values = sliced(["all"], groups=("site_id",))
    assert check_groups(outcomes, truth, values).verdict == "not_applicable"


def test_the_group_table_by_hand() -> None:
    outcomes, truth, values = sliced(["a", "b", "c"])
    values = values.where(values != "c", None)
    values[:10] = "tiny"
    kept = pd.Series([0.25, 0.75, 0.5], index=[0, 1, ROWS])
    rows = {row.value: row for row in group_table(outcomes, truth, values, kept)}
    assert list(rows) == ["b", "missing", "a", "tiny"]
    b = outcomes.reward[ROWS : 2 * ROWS]
    assert (rows["b"].impressions, rows["b"].rewards) == (ROWS, b.sum())
    assert rows["b"].calibration_ratio is not None
    assert rows["b"].calibration_ratio.estimate == pytest.approx(RATES.sum() / b.sum())
    expected = outcomes.where((values == "b").to_numpy())
    assert rows["b"].normalized_entropy is not None
    assert rows["b"].normalized_entropy.estimate == pytest.approx(expected.score(RATES).normalized_entropy.estimate)
    assert rows["b"].calibration_error == expected.calibration_error(RATES)
    assert (rows["tiny"].policy_disagreement, rows["b"].policy_disagreement, rows["a"].policy_disagreement) == (
        0.5,
        0.5,
        None,
    )
    assert rows["tiny"].calibration_ratio is rows["tiny"].normalized_entropy is rows["tiny"].calibration_error is None
