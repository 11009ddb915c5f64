"""Platt scaling: probabilities that rank well made to mean what they say."""

from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat
from scipy.optimize import minimize
from scipy.special import expit, logit

from liftloop.stats.columns import Floats, binary, require_same_length, shares
from liftloop.stats.scoring import PROBABILITY_FLOOR

CONSTANT_LOGITS = 1e-6  # a smaller range is single-precision noise around a constant


class PlattCalibration(BaseModel):
    """A line on the logit scale; slope 0 or more, so that no ranking is turned round. Kept as JSON with the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope: Annotated[FiniteFloat, Field(ge=0)]
    intercept: FiniteFloat

    def apply(self, probability: ArrayLike) -> Floats:
        """Calibrated probabilities, shape (rows,)."""
        return np.asarray(expit(self.slope * _logits(probability) + self.intercept), dtype=np.float64)


def fit_platt(reward: ArrayLike, probability: ArrayLike) -> PlattCalibration:
    """The line with the least log loss against Platt's smoothed targets, on rows the model did not learn from.

    Platt 1999, "Probabilistic Outputs for Support Vector Machines". A constant prediction keeps slope 1.

    Raises:
        ValueError: rewards other than 0 and 1, only one of them, or lengths differ.
    """
    reward, logits = binary("reward", reward), _logits(probability)
    require_same_length(reward=reward, probability=logits)
    target = _smoothed_targets(reward)
    level = logit(target.mean())
    if np.ptp(logits) < CONSTANT_LOGITS:
        return PlattCalibration(slope=1, intercept=level - logits.mean())
    slope, intercept = _best_line(logits, target)
    if slope < 0:  # the loss is convex, so the best line allowed is the flat one
        return PlattCalibration(slope=0, intercept=level)
    return PlattCalibration(slope=slope, intercept=intercept)


def _best_line(logits: Floats, target: Floats) -> tuple[float, float]:
    centre, spread = logits.mean(), logits.std()
    scaled = (logits - centre) / spread  # else slope and intercept pull on each other, and the search crawls
    search = {"jac": True, "hess": _hessian, "method": "trust-exact", "options": {"gtol": 1e-9}}
    fit = minimize(_loss_and_gradient, x0=(spread, centre), args=(scaled, target), **search)  # from the identity
    slope = float(fit.x[0] / spread)
    return slope, float(fit.x[1] - slope * centre)


def _smoothed_targets(reward: Floats) -> Floats:
    """Not quite 0 and 1, so that rows a line can separate do not drive the slope to infinity."""
    positives = float(reward.sum())
    high, low = (positives + 1) / (positives + 2), 1 / (reward.size - positives + 2)
    return low + reward * (high - low)


def _loss_and_gradient(line: Floats, scaled: Floats, target: Floats) -> tuple[float, Floats]:
    slope, intercept = line
    score = slope * scaled + intercept
    error = expit(score) - target
    return float(np.mean(np.logaddexp(0, score) - target * score)), np.array([np.mean(error * scaled), np.mean(error)])


def _hessian(line: Floats, scaled: Floats, _target: Floats) -> Floats:
    slope, intercept = line
    chance = expit(slope * scaled + intercept)
    weight = chance * (1 - chance)
    cross = np.mean(weight * scaled)
    return np.array([[np.mean(weight * scaled**2), cross], [cross, np.mean(weight)]])


def _logits(probability: ArrayLike) -> Floats:
    clipped = np.clip(shares("probability", probability), PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    return np.asarray(logit(clipped), dtype=np.float64)
