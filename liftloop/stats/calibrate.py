"""Fits calibrations: a line or a rising curve, where the data support one."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit, logit

from liftloop.stats.calibration import IDENTITY, Calibration, IsotonicCalibration, PlattCalibration, logits_of
from liftloop.stats.columns import Floats, binary, column, require, require_same_length, shares
from liftloop.stats.scoring import log_loss_per_row

CONSTANT_LOGITS = 1e-6  # a smaller range is single-precision noise around a constant
CROSS_VALIDATION_FOLDS = 5
MINIMUM_FOLD_REWARDS = 20  # and as many rows without: with fewer, a curve is not tried
CLEAR_WIN_ERRORS = 2.0  # standard errors by which the curve must beat the line
# Twice the log likelihood that must be gained: 95 % points of chi-squared.
INFORMATIVE = 3.84  # by a ranking over a constant, one parameter
CALLED_FOR = 5.99  # by a line over the uncalibrated probabilities, two parameters


def fit_calibration(
    reward: ArrayLike, probability: ArrayLike, weight: ArrayLike | None = None, *, mean_rate: float
) -> Calibration:
    """Platt's line, or the isotonic curve where that is clearly better in cross-validation over consecutive rows.

    If a likelihood-ratio test does not favour the line, the probabilities stay as they are: with few rewards, their
    rate on these rows differs from the future rate by chance. If the line is no better than a constant, the predictions
    carry no information, and every probability becomes the mean rate.

    Args:
        reward: 0 and 1, shape (rows,), of rows that the model was not trained on, in time order.
        weight: how many rows each row represents; None: one each.
        mean_rate: of these rows and the training rows together.

    Raises:
        ValueError: rewards other than 0 and 1, only one of them, or lengths differ.
    """
    reward, probability = binary("reward", reward), shares("probability", probability)
    weight = _weights(weight, reward)
    require_same_length(reward=reward, probability=probability, weight=weight)
    if _has_enough(reward) and _is_clearly_better(reward, probability, weight):
        return fit_isotonic(reward, probability, weight)
    line = fit_platt(reward, probability, weight)
    losses = log_loss_per_row(reward, line.apply(probability))

    def gained_over(predicted: Floats) -> float:
        return float(2 * (log_loss_per_row(reward, predicted) - losses) @ weight / weight.mean())

    if gained_over(np.full_like(probability, np.average(reward, weights=weight))) <= INFORMATIVE:
        return PlattCalibration(slope=0, intercept=float(logit(mean_rate)))
    return line if gained_over(probability) > CALLED_FOR else IDENTITY


def fit_platt(reward: ArrayLike, probability: ArrayLike, weight: ArrayLike | None = None) -> PlattCalibration:
    """The line with the least log loss against Platt's smoothed targets, on rows the model was not trained on.

    Platt 1999, "Probabilistic Outputs for Support Vector Machines". A constant prediction keeps slope 1.

    Raises:
        ValueError: rewards other than 0 and 1, only one of them, or lengths differ.
    """
    reward, logits = binary("reward", reward), logits_of(probability)
    weight = _weights(weight, reward)
    require_same_length(reward=reward, probability=logits, weight=weight)
    target = _smoothed_targets(reward, weight)
    level = logit(np.average(target, weights=weight))
    if np.ptp(logits) < CONSTANT_LOGITS:
        return PlattCalibration(slope=1, intercept=level - np.average(logits, weights=weight))
    slope, intercept = _best_line(logits, target, weight / weight.mean())
    if slope < 0:  # the loss is convex, so the best line allowed is the flat one
        return PlattCalibration(slope=0, intercept=level)
    return PlattCalibration(slope=slope, intercept=intercept)


def fit_isotonic(reward: ArrayLike, probability: ArrayLike, weight: ArrayLike | None = None) -> IsotonicCalibration:
    """The rising curve with the least squared error, as a line through the centres of its steps.

    Zadrozny and Elkan 2002, "Transforming Classifier Scores into Accurate Multiclass Probability Estimates". Centres
    joined by lines, because steps would tie predictions that the model ranks: Oron and Flournoy 2017, "Centered
    Isotonic Regression".

    Raises:
        ValueError: rewards other than 0 and 1, only one of them, or lengths differ.
    """
    reward, score = binary("reward", reward), logits_of(probability)
    weight = _weights(weight, reward)
    require_same_length(reward=reward, probability=score, weight=weight)
    scores, place = np.unique(score, return_inverse=True)
    sums = [np.bincount(place, weights=values) for values in (weight, weight * reward)]
    rows, rewards, weighted_scores = (
        np.add.reduceat(values, isotonic_regression(sums[1] / sums[0], weights=sums[0]).blocks[:-1])
        for values in (*sums, sums[0] * scores)
    )
    # As if each step had one more row of the mean rate, because a rate of 0 or 1 has no logit.
    rates = (rewards + np.average(reward, weights=weight)) / (rows + 1)
    return _rising_line(weighted_scores / rows, np.asarray(logit(rates)))


def _rising_line(scores: Floats, logits: Floats) -> IsotonicCalibration:
    """A line through these points, without points that are no higher than an earlier one."""
    is_kept = np.r_[True, logits[1:] > np.maximum.accumulate(logits)[:-1]]
    return IsotonicCalibration(scores=tuple(scores[is_kept].tolist()), logits=tuple(logits[is_kept].tolist()))


def _has_enough(reward: Floats) -> bool:
    rewards = [fold.sum() for fold in np.array_split(reward, CROSS_VALIDATION_FOLDS)]
    others = [(1 - fold).sum() for fold in np.array_split(reward, CROSS_VALIDATION_FOLDS)]
    return bool(min(rewards + others) >= MINIMUM_FOLD_REWARDS)


def _is_clearly_better(reward: Floats, probability: Floats, weight: Floats) -> bool:
    """Whether the curve reduces log loss by more than chance explains."""
    line, curve = (_held_out_losses(fit, reward, probability, weight) for fit in (fit_platt, fit_isotonic))
    reduction = (line - curve) * weight / weight.mean()
    return bool(reduction.mean() > CLEAR_WIN_ERRORS * reduction.std() / np.sqrt(reduction.size))


def _held_out_losses(
    fit: Callable[[Floats, Floats, Floats], Calibration], reward: Floats, probability: Floats, weight: Floats
) -> Floats:
    """Log loss of each row under a calibration fitted on the other folds, shape (rows,)."""
    fold = np.arange(reward.size) * CROSS_VALIDATION_FOLDS // reward.size
    losses = np.empty_like(reward)
    for number in range(CROSS_VALIDATION_FOLDS):
        is_out = fold == number
        found = fit(reward[~is_out], probability[~is_out], weight[~is_out])
        losses[is_out] = log_loss_per_row(reward[is_out], found.apply(probability[is_out]))
    return losses


def _weights(weight: ArrayLike | None, reward: Floats) -> Floats:
    if weight is None:
        return np.ones_like(reward)
    weights = column("weight", weight)
    require("weight", weights, weights > 0, "above 0")
    return weights


def _best_line(logits: Floats, target: Floats, weight: Floats) -> tuple[float, float]:
    centre, spread = logits.mean(), logits.std()
    scaled = (logits - centre) / spread  # unscaled, slope and intercept are correlated and the search is slow
    search = {"jac": True, "hess": _hessian, "method": "trust-exact", "options": {"gtol": 1e-9}}
    fit = minimize(
        _loss_and_gradient, x0=(spread, centre), args=(scaled, target, weight), **search
    )  # from the identity
    slope = float(fit.x[0] / spread)
    return slope, float(fit.x[1] - slope * centre)


def _smoothed_targets(reward: Floats, weight: Floats) -> Floats:
    """Slightly inside 0 and 1, so that linearly separable rows do not drive the slope to infinity."""
    positives = float((reward * weight).sum())
    high, low = (positives + 1) / (positives + 2), 1 / (float(weight.sum()) - positives + 2)
    return low + reward * (high - low)


def _loss_and_gradient(line: Floats, scaled: Floats, target: Floats, weight: Floats) -> tuple[float, Floats]:
    slope, intercept = line
    score = slope * scaled + intercept
    error = weight * (expit(score) - target)
    loss = np.mean(weight * (np.logaddexp(0, score) - target * score))
    return float(loss), np.array([np.mean(error * scaled), np.mean(error)])


def _hessian(line: Floats, scaled: Floats, _target: Floats, weight: Floats) -> Floats:
    slope, intercept = line
    chance = expit(slope * scaled + intercept)
    weight = weight * chance * (1 - chance)
    cross = np.mean(weight * scaled)
    return np.array([[np.mean(weight * scaled**2), cross], [cross, np.mean(weight)]])
