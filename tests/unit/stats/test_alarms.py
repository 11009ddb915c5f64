"""Calibration error without its bias, columns that know the outcome, and logs that overlap too little."""

import numpy as np
import pandas as pd
import pytest

from liftloop.stats.calibration_error import calibration_error
from liftloop.stats.columns import Floats
from liftloop.stats.leakage import RARE_ROWS, binned, single_feature
from liftloop.stats.off_policy import LoggedFeedback
from liftloop.stats.overlap import overlap
from liftloop.stats.scoring import expected_calibration_error


def drawn(probability: Floats, seed: int) -> Floats:
    return (np.random.default_rng(seed).random(len(probability)) < probability).astype(float)


def test_a_perfect_model_has_no_calibration_error_where_the_usual_one_sees_some() -> None:
    truth = np.random.default_rng(0).beta(1, 19, 3_000)
    rewards = [drawn(truth, seed) for seed in range(200)]
    found = [calibration_error(reward, truth) for reward in rewards]
    usual = np.mean([expected_calibration_error(reward, truth) for reward in rewards])
    assert usual > 0.006
    assert np.mean([each.estimate for each in found]) < 0.6 * usual
    assert np.mean([each.estimate == 0 for each in found]) > 0.4  # its square is as often below 0 as above
    assert np.mean([each.low > 0 for each in found]) < 0.06


@pytest.mark.parametrize("scale", [0.7, 1.4])
def test_the_error_of_a_wrong_model_is_found_at_its_size(scale: float) -> None:
    truth = np.random.default_rng(0).beta(2, 18, 50_000)
    found = [calibration_error(drawn(truth, seed), truth * scale, bins=20) for seed in range(40)]
    size = abs(scale - 1) * np.sqrt(np.mean(truth**2))
    assert np.mean([each.estimate for each in found]) == pytest.approx(size, rel=0.02)
    assert np.mean([each.low <= size * 0.995 <= each.high for each in found]) > 0.85


def test_dependent_rows_widen_the_error_and_lower_its_estimate() -> None:
    rng = np.random.default_rng(1)
    truth = rng.beta(2, 18, 500)
    probability, blocks = np.repeat(truth, 10), np.repeat(np.arange(500), 10)
    reward = np.repeat(drawn(truth, 2), 10)
    clustered = calibration_error(reward, probability, blocks=blocks)
    alone = calibration_error(reward, probability)
    assert clustered.low == 0 < alone.low
    assert clustered.estimate < alone.estimate


def test_a_row_of_weight_two_counts_as_two() -> None:
    rng = np.random.default_rng(2)
    probability = rng.permutation(np.linspace(0.01, 0.4, 400))
    reward, blocks = drawn(probability * 1.5, 1), np.arange(400)
    weighted = calibration_error(reward, probability, blocks=blocks, weight=np.full(400, 2.0))
    assert weighted == calibration_error(reward, probability, blocks=blocks)
    heavy = np.where(probability > 0.2, 3.0, 1.0)
    assert calibration_error(reward, probability, blocks=blocks, weight=heavy) != weighted


REWARD = (np.random.default_rng(5).random(20_000) < 0.05).astype(float)


@pytest.mark.parametrize("kind", ["number", "category", "whole number"])
def test_a_copy_of_the_reward_is_seen_through(kind: str) -> None:
    values = {
        "number": pd.Series(REWARD * 3.7 + np.random.default_rng(0).normal(0, 0.1, 20_000)),
        "category": pd.Series(np.where(REWARD == 1, "yes", "no")),
        "whole number": pd.Series(REWARD.astype(int), dtype="Int64"),
    }[kind]
    found = single_feature(REWARD, values)
    assert found.area_under_roc > 0.99


def test_a_column_filled_in_with_rewards_alone_has_a_pure_value() -> None:
    """As often left out with a reward as not: no rank gives it away, but what is filled in does."""
    rng = np.random.default_rng(0)
    is_known = (REWARD == 1) & (rng.random(20_000) < 0.2)
    seconds = pd.Series(np.where(is_known, rng.exponential(30, 20_000), np.nan))
    found = single_feature(REWARD, seconds)
    assert found.area_under_roc < 0.7
    assert (
        single_feature(REWARD, pd.Series("known", index=np.arange(20_000)).where(is_known)).pure_rows == is_known.sum()
    )
    missing = pd.Series(np.where(REWARD == 1, np.nan, 1.0))
    assert single_feature(REWARD, missing).pure_rows == REWARD.sum()


def test_a_few_rows_with_rewards_alone_are_chance() -> None:
    for rows, expected in [(15, 0), (25, 25)]:
        values = np.where((np.cumsum(REWARD) <= rows) & (REWARD == 1), "these", "others")
        assert single_feature(REWARD, pd.Series(values)).pure_rows == expected


def test_where_nearly_all_is_rewarded_pure_values_are_no_alarm() -> None:
    reward = (np.random.default_rng(0).random(20_000) < 0.97).astype(float)
    category = pd.Series(np.random.default_rng(1).integers(0, 200, 20_000).astype(str))
    assert single_feature(reward, category).pure_rows == 0


def test_noise_and_honest_rates_say_little() -> None:
    rng = np.random.default_rng(6)
    truth = rng.beta(1, 19, 20_000)
    reward = drawn(truth, 7)
    assert single_feature(reward, pd.Series(rng.normal(size=20_000))).area_under_roc == pytest.approx(0.5, abs=0.03)
    assert single_feature(reward, pd.Series(rng.integers(0, 20_000, 20_000).astype(str))).area_under_roc < 0.6
    assert 0.65 < single_feature(reward, pd.Series(truth)).area_under_roc < 0.85
    assert single_feature(reward, pd.Series(np.full(20_000, np.nan))).area_under_roc == 0.5


def test_bins_keep_missing_and_rare_values_apart() -> None:
    values = pd.Series(["a"] * RARE_ROWS + ["b"] * (RARE_ROWS - 1) + ["c"] + [None] * 3)
    bins = binned(values)
    assert len({*bins[:RARE_ROWS]} | {bins[RARE_ROWS]} | {bins[-1]}) == 3
    assert bins[RARE_ROWS] == bins[-4]  # both rare
    numbers = binned(pd.Series([np.nan, 0.0, 0.0, 5.0, np.inf]))
    assert numbers[0] == numbers[4] == 0
    assert numbers[1] == numbers[2] != numbers[3]


def feedback(weights: Floats, reward: Floats) -> LoggedFeedback:
    return LoggedFeedback(reward=reward, propensity=np.full(len(weights), 0.01), target_probability=weights * 0.01)


def test_overlap_by_hand() -> None:
    found = overlap(feedback(np.array([1.0, 3.0, 0.0, 4.0]), np.array([1.0, 1.0, 0.0, 0.0])), max_weight=2, seed=0)
    assert found.effective_sample_size == pytest.approx(64 / 26)
    assert found.mean_weight.estimate == pytest.approx(2)
    assert found.clipped_share == 0.5
    assert found.largest_reward_share == pytest.approx(2 / 3)  # of 1 and of 3 cut to 2


def test_without_weighted_rewards_nothing_is_known() -> None:
    assert overlap(feedback(np.array([1.0, 0.0]), np.array([0.0, 1.0])), max_weight=2, seed=0).largest_reward_share == 1
