"""Off-policy values: by hand, by identity, and against a world whose truth is known."""

import math
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from liftloop.stats.columns import Floats
from liftloop.stats.interval import Interval, bootstrap_mean
from liftloop.stats.off_policy import (
    LoggedFeedback,
    clipped_share,
    doubly_robust_value,
    effective_sample_size,
    importance_weights,
    inverse_propensity_value,
    self_normalized_value,
    switch_doubly_robust_value,
)

Estimator = Callable[..., Interval]
ESTIMATORS: list[Estimator] = [inverse_propensity_value, self_normalized_value, doubly_robust_value]

# A world of two contexts and three ads, equally often the one context and the other.
CLICK_PROBABILITY = np.array([[0.1, 0.3, 0.2], [0.4, 0.1, 0.2]])
LOGGING = np.array([[0.5, 0.2, 0.3], [0.2, 0.5, 0.3]])
TARGET = np.array([[0.1, 0.8, 0.1], [0.7, 0.1, 0.2]])
TRUE_VALUE = float((TARGET * CLICK_PROBABILITY).sum(axis=1).mean())


def logged(rows: int, seed: int, model: Floats = CLICK_PROBABILITY) -> LoggedFeedback:
    rng = np.random.default_rng(seed)
    context = rng.integers(0, 2, rows)
    ad = (rng.random(rows)[:, None] > LOGGING.cumsum(axis=1)[context, :2]).sum(axis=1)
    return LoggedFeedback(
        reward=(rng.random(rows) < CLICK_PROBABILITY[context, ad]).astype(float),
        propensity=LOGGING[context, ad],
        target_probability=TARGET[context, ad],
        model_reward=model[context, ad],
        model_target_reward=(TARGET * model).sum(axis=1)[context],
    )


def feedback(**changes: Any) -> LoggedFeedback:
    columns: dict[str, Any] = {
        "reward": [1, 0, 1],
        "propensity": [0.5, 0.25, 0.5],
        "target_probability": [0.25, 0.5, 0.5],
        "model_reward": [0.5, 0.5, 0.5],
        "model_target_reward": [0.6, 0.6, 0.6],
    }
    return LoggedFeedback(**columns | changes)


@pytest.mark.parametrize(
    ("estimator", "value"),
    [
        (inverse_propensity_value, (0.5 + 0 + 1) / 3),
        (self_normalized_value, (0.5 + 0 + 1) / (0.5 + 2 + 1)),
        (doubly_robust_value, 0.6 + (0.5 * 0.5 - 2 * 0.5 + 1 * 0.5) / 3),
    ],
)
def test_values_by_hand(estimator: Estimator, value: float) -> None:
    assert estimator(feedback(), seed=0).estimate == pytest.approx(value)


@pytest.mark.parametrize(
    ("estimator", "value"),
    [
        (inverse_propensity_value, (0.5 + 0 + 1) / 3),
        (self_normalized_value, (0.5 + 0 + 1) / (0.5 + 1 + 1)),
        (doubly_robust_value, 0.6 + (0.5 * 0.5 - 1 * 0.5 + 1 * 0.5) / 3),
        (switch_doubly_robust_value, 0.6 + (0.5 * 0.5 - 0 + 1 * 0.5) / 3),
    ],
)
def test_clipped_values_by_hand(estimator: Estimator, value: float) -> None:
    assert estimator(feedback(), max_weight=1, seed=0).estimate == pytest.approx(value)


def test_weights_and_the_share_that_clipping_cuts() -> None:
    np.testing.assert_allclose(importance_weights(feedback()), [0.5, 2, 1])
    np.testing.assert_allclose(importance_weights(feedback(), max_weight=1), [0.5, 1, 1])
    assert clipped_share(feedback(), 1) == pytest.approx(1 / 3)
    assert clipped_share(feedback(), None) == 0


@pytest.mark.parametrize(
    ("weights", "size"), [([2, 2, 2], 3), ([1, 0, 0, 0], 1), ([0, 0], 0), ([3, 1], 16 / 10), ([1e-9, 3e-9], 1.6)]
)
def test_effective_sample_size(weights: list[float], size: float) -> None:
    assert effective_sample_size(weights) == pytest.approx(size)


@pytest.mark.parametrize("estimator", [inverse_propensity_value, self_normalized_value])
def test_logging_policy_is_worth_what_it_earned(estimator: Estimator) -> None:
    log = logged(400, seed=1)
    itself = LoggedFeedback(log.reward, log.propensity, log.propensity)
    found, mean = estimator(itself, seed=5), bootstrap_mean(log.reward, seed=5)
    assert (found.estimate, found.low, found.high) == pytest.approx((mean.estimate, mean.low, mean.high))


def test_self_normalized_value_shifts_with_the_reward() -> None:
    log = logged(400, seed=1)
    shifted = LoggedFeedback(log.reward + 10, log.propensity, log.target_probability)
    assert self_normalized_value(shifted, seed=0).estimate == pytest.approx(
        self_normalized_value(log, seed=0).estimate + 10
    )


def test_doubly_robust_without_a_model_is_inverse_propensity() -> None:
    log = logged(400, seed=1, model=np.zeros((2, 3)))
    assert doubly_robust_value(log, seed=0) == inverse_propensity_value(log, seed=0)


@pytest.mark.parametrize(
    ("estimator", "model"),
    [*((each, CLICK_PROBABILITY) for each in ESTIMATORS), (doubly_robust_value, np.full((2, 3), 0.9))],
    ids=["inverse propensity", "self-normalized", "doubly robust", "doubly robust with a wrong model"],
)
def test_truth_is_covered(estimator: Estimator, model: Floats) -> None:
    repetitions = 200
    found = [estimator(logged(500, seed, model), seed=seed, resamples=200) for seed in range(repetitions)]
    hits = sum(each.low <= TRUE_VALUE <= each.high for each in found)
    assert binom.ppf(1e-4, repetitions, 0.93) <= hits <= binom.ppf(1 - 1e-4, repetitions, 0.97)
    spread = np.std([each.estimate for each in found]) / math.sqrt(repetitions)
    assert abs(np.mean([each.estimate for each in found]) - TRUE_VALUE) < 4 * spread


def test_a_good_model_narrows_the_interval() -> None:
    log = logged(2_000, seed=3)
    direct, robust = inverse_propensity_value(log, seed=0), doubly_robust_value(log, seed=0)
    assert robust.high - robust.low < 0.9 * (direct.high - direct.low)


def test_blocks_reach_the_bootstrap() -> None:
    log = logged(300, seed=1)
    twice = LoggedFeedback(*(np.tile(each, 2) for each in (log.reward, log.propensity, log.target_probability)))
    whole = self_normalized_value(twice, seed=0, blocks=np.tile(np.arange(300), 2))
    split = self_normalized_value(twice, seed=0)
    assert (whole.high - whole.low) / (split.high - split.low) == pytest.approx(math.sqrt(2), rel=0.15)


@pytest.mark.parametrize("estimator", [*ESTIMATORS, partial(switch_doubly_robust_value, max_weight=3)])
def test_a_row_that_stands_for_two_counts_twice(estimator: Estimator) -> None:
    log, twice = logged(300, seed=1), np.where(np.arange(300) % 3 == 0, 2, 1)
    copies = LoggedFeedback(*(np.repeat(column, twice) for column in columns_of(log)))
    weighted = replace(log, row_weight=twice.astype(float))
    assert estimator(weighted, seed=0).estimate == pytest.approx(estimator(copies, seed=0).estimate)
    assert estimator(weighted, seed=0).estimate != pytest.approx(estimator(log, seed=0).estimate)


def columns_of(log: LoggedFeedback) -> list[Floats]:
    columns = [getattr(log, field.name) for field in fields(log)]
    return [column for column in columns if column is not None]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"row_weight": [1, 0, 1]}, "row_weight: 1 of 3 rows are not above 0, first 0.0 at row 1"),
        ({"reward": [1, 0]}, "lengths differ: reward has 2, propensity has 3"),
        ({"reward": [1, 0, np.nan]}, "reward: 1 of 3 rows are not finite, first nan at row 2"),
        ({"reward": []}, "reward: .* at least one row"),
        ({"propensity": [0.5, 0, 0]}, "propensity: 2 of 3 rows are not above 0, first 0.0 at row 1"),
        ({"propensity": [0.5, 1.5, 0.5]}, r"propensity: 1 of 3 rows are not in \[0, 1\], first 1.5 at row 1"),
        ({"target_probability": [-0.1, 1, 1]}, r"target_probability: 1 of 3 rows are not in \[0, 1\], first -0.1"),
        ({"model_reward": [0.5]}, "lengths differ: .* model_reward has 1"),
        ({"model_target_reward": [np.inf] * 3}, "model_target_reward: 3 of 3 rows are not finite, first inf at row 0"),
    ],
)
def test_feedback_that_cannot_be_used(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        feedback(**changes)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("max_weight", [0, -1, math.nan])
def test_weights_cannot_be_clipped_to_nothing(estimator: Estimator, max_weight: float) -> None:
    with pytest.raises(ValueError, match=r"max_weight=.* must be above 0"):
        estimator(feedback(), max_weight=max_weight, seed=0)


@pytest.mark.parametrize("missing", ["model_reward", "model_target_reward"])
def test_doubly_robust_needs_the_model(missing: str) -> None:
    with pytest.raises(ValueError, match="needs model_reward and model_target_reward"):
        doubly_robust_value(feedback(**{missing: None}), seed=0)


def test_switched_at_a_weight_that_nothing_exceeds_is_doubly_robust() -> None:
    log = logged(2_000, seed=3)
    assert switch_doubly_robust_value(log, max_weight=4, seed=0) == doubly_robust_value(log, seed=0)


def test_a_policy_that_never_picks_a_logged_ad_has_no_self_normalized_value() -> None:
    with pytest.raises(ValueError, match="denominator: all 3 rows are 0"):
        self_normalized_value(feedback(target_probability=[0, 0, 0]), seed=0)


def test_weights_are_not_negative() -> None:
    with pytest.raises(ValueError, match="weights: 1 of 2 rows are not 0 or more"):
        effective_sample_size([1, -1])
