"""Calibrated probabilities: a line or a rising curve on the logit scale, stored as JSON with the model."""

from typing import Annotated, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator
from scipy.special import expit, logit

from liftloop.stats.columns import PROBABILITY_FLOOR, Floats, shares


class PlattCalibration(BaseModel):
    """A line on the logit scale; its slope is at least 0, so that no ranking is reversed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slope: Annotated[FiniteFloat, Field(ge=0)]
    intercept: FiniteFloat

    def apply(self, probability: ArrayLike) -> Floats:
        """Calibrated probabilities, shape (rows,)."""
        return np.asarray(expit(self.slope * logits_of(probability) + self.intercept), dtype=np.float64)

    def shifted(self, shift: float) -> Self:
        """The same line where predicted and observed logits are both higher by `shift`."""
        return self.model_copy(update={"intercept": self.intercept + (1 - self.slope) * float(shift)})


class IsotonicCalibration(BaseModel):
    """A rising line through points on the logit scale, parallel to the identity beyond them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scores: Annotated[tuple[FiniteFloat, ...], Field(min_length=1)]  # logits of predicted rates
    logits: tuple[FiniteFloat, ...]  # logits of observed rates

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if len(self.scores) != len(self.logits) or not _is_rising(self.scores) or not _is_rising(self.logits):
            raise ValueError("scores and logits must be of one length and rise from point to point")
        return self

    def apply(self, probability: ArrayLike) -> Floats:
        """Calibrated probabilities, shape (rows,)."""
        score = logits_of(probability)
        beyond = score - np.clip(score, self.scores[0], self.scores[-1])
        return np.asarray(expit(np.interp(score, self.scores, self.logits) + beyond), dtype=np.float64)

    def shifted(self, shift: float) -> Self:
        """The same curve where predicted and observed logits are both higher by `shift`."""
        scores, logits = (tuple(each + float(shift) for each in points) for points in (self.scores, self.logits))
        return self.model_copy(update={"scores": scores, "logits": logits})


Calibration = PlattCalibration | IsotonicCalibration
IDENTITY = PlattCalibration(slope=1, intercept=0)


def logits_of(probability: ArrayLike) -> Floats:
    """Logits, shape (rows,); finite also for 0 and 1."""
    clipped = np.clip(shares("probability", probability), PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    return np.asarray(logit(clipped), dtype=np.float64)


def _is_rising(points: tuple[float, ...]) -> bool:
    return bool(np.all(np.diff(points) > 0))
