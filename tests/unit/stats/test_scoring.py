"""Scores of predicted probabilities against values worked out by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from liftloop.stats.columns import ranks
from liftloop.stats.scoring import (
    ReliabilityBin,
    area_under_roc,
    calibration_ratio,
    expected_calibration_error,
    log_loss,
    log_loss_per_row,
    normalized_entropy,
    reliability_table,
)

Score = Callable[[Any, Any], float]
ALL_SCORES: list[Score] = [
    log_loss,
    normalized_entropy,
    area_under_roc,
    calibration_ratio,
    expected_calibration_error,
]


def test_log_loss_is_the_surprise_of_each_row() -> None:
    np.testing.assert_allclose(log_loss_per_row([1, 0], [0.25, 0.25]), [np.log(4), np.log(4 / 3)])
    assert log_loss([1, 0], [0.25, 0.25]) == pytest.approx((np.log(4) + np.log(4 / 3)) / 2)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_certain_and_wrong_costs_what_the_floor_allows(precision: str) -> None:
    certain = np.array([1, 0, 1, 0]).astype(precision)
    np.testing.assert_allclose(log_loss_per_row([0, 1, 1, 0], certain), [-np.log(1e-12)] * 2 + [0, 0], atol=1e-4)


def test_normalized_entropy_of_the_mean_rate_is_one() -> None:
    assert normalized_entropy([1, 0, 0, 0], [0.25] * 4) == pytest.approx(1)


def test_normalized_entropy_by_hand() -> None:
    losses = -np.log(0.8)  # every row predicted right at 0.8, against one bit
    assert normalized_entropy([1, 0], [0.8, 0.2]) == pytest.approx(losses / np.log(2))


@pytest.mark.parametrize(
    ("score", "area"),
    [([1, 2, 3, 4], 1), ([4, 3, 2, 1], 0), ([1, 1, 1, 1], 0.5), ([1, 3, 2, 4], 0.75), ([1, 2, 2, 3], 0.875)],
)
def test_area_under_roc(score: list[float], area: float) -> None:
    assert area_under_roc([0, 0, 1, 1], score) == pytest.approx(area)


def test_calibration_ratio_is_predicted_over_observed() -> None:
    assert calibration_ratio([1, 0, 0, 1], [0.5, 0.5, 1, 1]) == pytest.approx(1.5)


def test_reliability_table_has_bins_of_equal_mass() -> None:
    table = reliability_table([0, 1, 1, 0], [0.1, 0.9, 0.7, 0.3], bins=2)
    assert [each.rows for each in table] == [2, 2]
    assert [each.mean_probability for each in table] == pytest.approx([0.2, 0.8])
    assert [each.mean_reward for each in table] == [0, 1]


def test_equal_predictions_share_a_bin() -> None:
    assert reliability_table([1, 0, 0, 0], [0.5] * 4, bins=10) == [ReliabilityBin(4, 0.5, 0.25)]


def test_expected_calibration_error_weighs_bins_by_rows() -> None:
    reward, probability = [0, 0, 0, 1], [0.1, 0.1, 0.1, 0.6]
    assert expected_calibration_error(reward, probability, bins=4) == pytest.approx(0.75 * 0.1 + 0.25 * 0.4)


@pytest.mark.parametrize("score", ALL_SCORES)
def test_row_order_does_not_matter(score: Score) -> None:
    rng = np.random.default_rng(0)
    probability = rng.choice([0.1, 0.2, 0.5], 60)
    reward = (rng.random(60) < probability).astype(float)
    order = rng.permutation(60)
    assert score(reward[order], probability[order]) == pytest.approx(score(reward, probability), rel=1e-12)


@pytest.mark.parametrize("score", [*ALL_SCORES, log_loss_per_row, reliability_table])
@pytest.mark.parametrize(
    ("reward", "probability", "message"),
    [
        ([], [], r"reward: .* at least one row, got shape \(0,\)"),
        ([[0, 1]], [[0.5, 0.5]], r"reward: expected one value per row .* got shape \(1, 2\)"),
        ([0, 1], [0.5], r"lengths differ: reward has 2, .* has 1"),
        ([0, np.nan, np.nan], [0.5] * 3, r"reward: 2 of 3 rows are not finite, first nan at row 1"),
        ([0, 1], [0.5, np.inf], r"1 of 2 rows are not finite, first inf at row 1"),
    ],
)
def test_columns_that_cannot_be_scored(score: Score, reward: object, probability: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(reward, probability)


@pytest.mark.parametrize(
    ("score", "reward", "probability", "message"),
    [
        (log_loss, [0, 1], [0.5, 1.5], r"probability: 1 of 2 rows are not in \[0, 1\], first 1.5 at row 1"),
        (log_loss, [0, 2], [0.5, 0.5], r"reward: 1 of 2 rows are not in \[0, 1\], first 2.0 at row 1"),
        (normalized_entropy, [0, 0], [0.5, 0.5], r"reward: all 2 rows are 0, so their entropy is 0"),
        (normalized_entropy, [1, 1], [0.5, 0.5], r"reward: all 2 rows are 1, so their entropy is 0"),
        (area_under_roc, [1, 1], [0.5, 0.5], r"reward: all 2 rows are 1; both 0 and 1 are needed"),
        (area_under_roc, [0, 0.5], [0.5, 0.5], r"reward: 1 of 2 rows are not 0 or 1, first 0.5 at row 1"),
        (calibration_ratio, [0, 0], [0.5, 0.5], r"reward: all 2 rows are 0, so the ratio is undefined"),
    ],
)
def test_undefined_scores(score: Score, reward: list[float], probability: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(reward, probability)


def test_reliability_needs_a_bin() -> None:
    with pytest.raises(ValueError, match="bins=0"):
        reliability_table([0, 1], [0.5, 0.5], bins=0)


def test_ranks_of_equal_values_are_the_mean_of_theirs() -> None:
    assert ranks(np.array([0.3, 0.1, 0.3, 0.2, 0.3])).tolist() == [4, 1, 4, 2, 4]
