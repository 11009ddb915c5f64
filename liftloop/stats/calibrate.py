"""Fits calibrations: a line, or a rising curve, where the data call for it."""

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
MINIMUM_FOLD_REWARDS = 20  # and as many rows without: below, a curve is not even tried
CLEAR_WIN_ERRORS = 2.0  # standard errors that the curve must save over the line
TELLING = (
    3.84  # twice the log likelihood that a ranking must add to a constant: 95 % point of chi-squared, one parameter
)
CALLED_FOR = 5.99  # twice the log likelihood that a line must add: 95 % point of chi-squared with its two parameters


def fit_calibration(
    reward: ArrayLike, probability: ArrayLike, weight: ArrayLike | None = None, *, mean_rate: float
) -> Calibration:
    """Platt's line, or the isotonic curve where that is clearly better in cross-validation over consecutive rows.

    Where no likelihood-ratio test calls for the line the probabilities stay as they are: rewards are few, and their
    rate on these rows by chance another than on those to come. Where none tells the line from a constant, what was
    predicted says nothing: then every probability is the mean rate.

    Args:
        reward: 0 and 1, shape (rows,), of rows that the model did not learn from, in the order of time.
        weight: how many rows each one stands for; None: for itself.
        mean_rate: of these rows and those that the model learned from.

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

    if gained_over(np.full_like(probability, np.average(reward, weights=weight))) <= TELLING:
        return PlattCalibration(slope=0, intercept=float(logit(mean_rate)))
    return line if gained_over(probability) > CALLED_FOR else IDENTITY


def fit_platt(reward: ArrayLike, probability: ArrayLike, weight: ArrayLike | None = None) -> PlattCalibration:
    """The line with the least log loss against Platt's smoothed targets, on rows the model did not learn from.

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
    and lines between them, for steps would tie what the model ranks: Oron and Flournoy 2017, "Centered Isotonic
    Regression".

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
    # As if each step had one more row of the mean rate, for a rate of 0 or 1 has no logit.
    rates = (rewards + np.average(reward, weights=weight)) / (rows + 1)
    return _rising_line(weighted_scores / rows, np.asarray(logit(rates)))


def _rising_line(scores: Floats, logits: Floats) -> IsotonicCalibration:
    """Through these points, but for those that are no higher than one before them."""
    is_kept = np.r_[True, logits[1:] > np.maximum.accumulate(logits)[:-1]]
    return IsotonicCalibration(scores=tuple(scores[is_kept].tolist()), logits=tuple(logits[is_kept].tolist()))


def _has_enough(reward: Floats) -> bool:
    rewards = [fold.sum() for fold in np.array_split(reward, CROSS_VALIDATION_FOLDS)]
    others = [(1 - fold).sum() for fold in np.array_split(reward, CROSS_VALIDATION_FOLDS)]
    return bool(min(rewards + others) >= MINIMUM_FOLD_REWARDS)


def _is_clearly_better(reward: Floats, probability: Floats, weight: Floats) -> bool:
    """Whether the curve saves more log loss than chance would explain."""
    line, curve = (_held_out_losses(fit, reward, probability, weight) for fit in (fit_platt, fit_isotonic))
    saved = (line - curve) * weight / weight.mean()
    return bool(saved.mean() > CLEAR_WIN_ERRORS * saved.std() / np.sqrt(saved.size))


def _held_out_losses(
    fit: Callable[[Floats, Floats, Floats], Calibration], reward: Floats, probability: Floats, weight: Floats
) -> Floats:
    """Log loss of each row by a calibration that was fitted on the other folds, shape (rows,)."""
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
    scaled = (logits - centre) / spread  # else slope and intercept pull on each other, and the search crawls
    search = {"jac": True, "hess": _hessian, "method": "trust-exact", "options": {"gtol": 1e-9}}
    fit = minimize(
        _loss_and_gradient, x0=(spread, centre), args=(scaled, target, weight), **search
    )  # from the identity
    slope = float(fit.x[0] / spread)
    return slope, float(fit.x[1] - slope * centre)


def _smoothed_targets(reward: Floats, weight: Floats) -> Floats:
    """Not quite 0 and 1, so that rows a line can separate do not drive the slope to infinity."""
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
