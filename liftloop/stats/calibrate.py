"""Fits calibrations: a line or a rising curve, where the data support one."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression, minimize
from scipy.special import chdtri, expit, logit

from liftloop.stats.calibration import IDENTITY, Calibration, IsotonicCalibration, PlattCalibration, logits_of
from liftloop.stats.columns import Floats, binary, require_same_length
from liftloop.stats.scoring import log_loss_per_row

CONSTANT_LOGITS = 1e-6  # a smaller range is single-precision noise around a constant
CROSS_VALIDATION_FOLDS = 5
MINIMUM_FOLD_REWARDS = 20  # and as many rows without: with fewer, a curve is not tried
CLEAR_WIN_ERRORS = 2.0  # standard errors by which the curve must beat the line
ERROR_RATE = 0.05  # of taking noise for a ranking, or chance for a line that is called for


def fit_calibration(
    reward: ArrayLike, probability: ArrayLike, *, mean_rate: float, negatives_kept: float = 1.0, candidates: int = 1
) -> Calibration:
    """Platt's line, or the isotonic curve where that is clearly better in cross-validation over consecutive rows.

    If a likelihood-ratio test does not favour the line, the probabilities stay as they are: with few rewards, their
    rate on these rows differs from the future rate by chance. If the line is no better than a constant, the predictions
    carry no information, and every probability becomes the mean rate: the best of many models of noise looks
    informative on the rows on which it was chosen, so the more `candidates` there were, the more it must gain (the
    error rate divided among them, Bonferroni).

    Where the log holds a sample of the unrewarded rows, all is fitted and tested on the rows as they are, with the
    logits moved by the logarithm of that share (prior correction: King & Zeng 2001, "Logistic Regression in Rare Events
    Data"): weights would shrink the tests' statistics.

    Args:
        reward: 0 and 1, shape (rows,), of rows that the model was not trained on, in time order.
        mean_rate: of these rows and the training rows together, in the full log.
        negatives_kept: the share of rows without a reward that are in the log.
        candidates: of how many choices these predictions are the best on these rows.

    Raises:
        ValueError: rewards other than 0 and 1, only one of them, or lengths differ.
    """
    reward, shift = binary("reward", reward), np.log(negatives_kept)
    in_sample = np.asarray(expit(logits_of(probability) - shift))
    require_same_length(reward=reward, probability=in_sample)
    found = _fit_calibration(reward, in_sample, candidates)
    if found is None:
        return PlattCalibration(slope=0, intercept=float(logit(mean_rate)))
    return found.shifted(shift)


def _fit_calibration(reward: Floats, probability: Floats, candidates: int) -> Calibration | None:
    """None: the predictions say nothing."""
    if _has_enough(reward) and _is_clearly_better(reward, probability):
        return fit_isotonic(reward, probability)
    line = fit_platt(reward, probability)
    losses = log_loss_per_row(reward, line.apply(probability))

    def gained_over(predicted: Floats) -> float:
        return float(2 * (log_loss_per_row(reward, predicted) - losses).sum())

    if gained_over(np.full_like(probability, reward.mean())) <= chdtri(1, ERROR_RATE / candidates):
        return None
    return line if gained_over(probability) > chdtri(2, ERROR_RATE) else IDENTITY


def fit_platt(reward: ArrayLike, probability: ArrayLike) -> PlattCalibration:
    """The line with the least log loss against Platt's smoothed targets, on rows the model was not trained on.

    Platt 1999, "Probabilistic Outputs for Support Vector Machines". A constant prediction keeps slope 1.

    Raises:
        ValueError: rewards other than 0 and 1, only one of them, or lengths differ.
    """
    reward, logits = binary("reward", reward), logits_of(probability)
    require_same_length(reward=reward, probability=logits)
    target = _smoothed_targets(reward)
    level = logit(target.mean())
    if np.ptp(logits) < CONSTANT_LOGITS:
        return PlattCalibration(slope=1, intercept=level - logits.mean())
    slope, intercept = _best_line(logits, target)
    if slope < 0:  # the loss is convex, so the best line allowed is the flat one
        return PlattCalibration(slope=0, intercept=level)
    return PlattCalibration(slope=slope, intercept=intercept)


def fit_isotonic(reward: ArrayLike, probability: ArrayLike) -> IsotonicCalibration:
    """The rising curve with the least squared error, as a line through the centres of its steps.

    Zadrozny and Elkan 2002, "Transforming Classifier Scores into Accurate Multiclass Probability Estimates". Centres
    joined by lines, because steps would tie predictions that the model ranks: Oron and Flournoy 2017, "Centered
    Isotonic Regression".

    Raises:
        ValueError: rewards other than 0 and 1, only one of them, or lengths differ.
    """
    reward, score = binary("reward", reward), logits_of(probability)
    require_same_length(reward=reward, probability=score)
    scores, place = np.unique(score, return_inverse=True)
    sums = [np.bincount(place), np.bincount(place, weights=reward)]
    rows, rewards, summed_scores = (
        np.add.reduceat(values, isotonic_regression(sums[1] / sums[0], weights=sums[0]).blocks[:-1])
        for values in (*sums, sums[0] * scores)
    )
    # As if each step had one more row of the mean rate, because a rate of 0 or 1 has no logit.
    rates = (rewards + reward.mean()) / (rows + 1)
    return _rising_line(summed_scores / rows, np.asarray(logit(rates)))


def _rising_line(scores: Floats, logits: Floats) -> IsotonicCalibration:
    """A line through these points, without points that are no higher than an earlier one."""
    is_kept = np.r_[True, logits[1:] > np.maximum.accumulate(logits)[:-1]]
    return IsotonicCalibration(scores=tuple(scores[is_kept].tolist()), logits=tuple(logits[is_kept].tolist()))


def _has_enough(reward: Floats) -> bool:
    rewards = [fold.sum() for fold in np.array_split(reward, CROSS_VALIDATION_FOLDS)]
    others = [(1 - fold).sum() for fold in np.array_split(reward, CROSS_VALIDATION_FOLDS)]
    return bool(min(rewards + others) >= MINIMUM_FOLD_REWARDS)


def _is_clearly_better(reward: Floats, probability: Floats) -> bool:
    """Whether the curve reduces log loss by more than chance explains."""
    line, curve = (_held_out_losses(fit, reward, probability) for fit in (fit_platt, fit_isotonic))
    reduction = line - curve
    return bool(reduction.mean() > CLEAR_WIN_ERRORS * reduction.std() / np.sqrt(reduction.size))


def _held_out_losses(fit: Callable[[Floats, Floats], Calibration], reward: Floats, probability: Floats) -> Floats:
    """Log loss of each row under a calibration fitted on the other folds, shape (rows,)."""
    fold = np.arange(reward.size) * CROSS_VALIDATION_FOLDS // reward.size
    losses = np.empty_like(reward)
    for number in range(CROSS_VALIDATION_FOLDS):
        is_out = fold == number
        found = fit(reward[~is_out], probability[~is_out])
        losses[is_out] = log_loss_per_row(reward[is_out], found.apply(probability[is_out]))
    return losses


def _best_line(logits: Floats, target: Floats) -> tuple[float, float]:
    centre, spread = logits.mean(), logits.std()
    scaled = (logits - centre) / spread  # unscaled, slope and intercept are correlated and the search is slow
    search = {"jac": True, "hess": _hessian, "method": "trust-exact", "options": {"gtol": 1e-9}}
    fit = minimize(_loss_and_gradient, x0=(spread, centre), args=(scaled, target), **search)  # from the identity
    slope = float(fit.x[0] / spread)
    return slope, float(fit.x[1] - slope * centre)


def _smoothed_targets(reward: Floats) -> Floats:
    """Slightly inside 0 and 1, so that linearly separable rows do not drive the slope to infinity."""
    positives = float(reward.sum())
    high, low = (positives + 1) / (positives + 2), 1 / (reward.size - positives + 2)
    return low + reward * (high - low)


def _loss_and_gradient(line: Floats, scaled: Floats, target: Floats) -> tuple[float, Floats]:
    slope, intercept = line
    score = slope * scaled + intercept
    error = expit(score) - target
    loss = np.mean(np.logaddexp(0, score) - target * score)
    return float(loss), np.array([np.mean(error * scaled), np.mean(error)])


def _hessian(line: Floats, scaled: Floats, _target: Floats) -> Floats:
    slope, intercept = line
    chance = expit(slope * scaled + intercept)
    variance = chance * (1 - chance)
    cross = np.mean(variance * scaled)
    return np.array([[np.mean(variance * scaled**2), cross], [cross, np.mean(variance)]])
