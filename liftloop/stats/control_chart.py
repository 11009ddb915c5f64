"""Control charts of ratios by hour: whether the last 24 hours differ from the same hours of past weeks.

The chart of a ratio of sums, such as rewards over predicted rewards, follows its logarithm relative to what the past
would have expected: its *shift*. Rhythms of the hour and of the weekday are part of the expectation. What is left moves
from day to day, so a shift is measured in standard deviations of past days, each judged as of then, and the limits are
Student's.

Two charts in one (Shewhart and EWMA: Lucas & Saccucci 1990, "Exponentially Weighted Moving Average Control Schemes:
Properties and Enhancements") find a large shift within a day, and a small one that lasts. No single hour makes an
alarm: two of the day's three thirds have to agree (Western Electric 1956, "Statistical Quality Control Handbook").
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from liftloop.stats.columns import Floats

SPAN_HOURS = 24
MINIMUM_DAYS = 7  # that a standard deviation is estimated from
SMOOTHING = 0.25  # weight of the newest day in the moving average
FALSE_ALARM = 5e-5  # of one look at one limit
_HOURS_OF_DAY, _HOURS_OF_WEEK = 24, 168
_THIRDS = 3


@dataclass(frozen=True, eq=False)
class Hourly:
    """Two sums by hour whose ratio is charted; each array has shape (hours,)."""

    hour: NDArray[np.int64]  # since 1970
    series: NDArray[np.intp]  # ratios of different series differ in level, but share the rhythm
    numerator: Floats
    denominator: Floats

    def where(self, is_selected: NDArray[np.bool_]) -> "Hourly":
        """The selected hours; `is_selected` has shape (hours,)."""
        sums = (self.numerator[is_selected], self.denominator[is_selected])
        return Hourly(self.hour[is_selected], self.series[is_selected], *sums)


@dataclass(frozen=True, slots=True)
class Shift:
    """A span's ratio, the expected one, and the logarithm of one over the other in each third of the span."""

    observed: float
    expected: float
    thirds: tuple[float, ...]
    days: float  # of the same series, that the expectation rests on

    @property
    def value(self) -> float:
        """The logarithm of observed over expected."""
        return math.log(self.observed / self.expected)

    @property
    def widening(self) -> float:
        """The standard deviation in those of a single day, because the expectation is a mean of so many days."""
        return math.sqrt(1 + 1 / self.days)


def expected(past: Hourly, now: Hourly) -> Floats:
    """The numerators of `now`, of one series with a past, that its level and the rhythm of all series expect.

    The rhythm is a factor for the hour of the day, and one for the hour of the week upon it. Each is shrunk towards 1
    as if one more day had been seen without rhythm, so that what was seen once counts half.
    """
    _, series = np.unique(past.series, return_inverse=True)
    level = _ratio_by(series, past.numerator, past.denominator)
    fitted, rhythm = past.denominator * level[series], np.ones(_HOURS_OF_WEEK)
    for hours in (_HOURS_OF_DAY, _HOURS_OF_WEEK):
        cell = past.hour % hours
        seen = np.bincount(cell, minlength=hours)
        factor = (seen * _ratio_by(cell, past.numerator, fitted, hours) + 1) / (seen + 1)
        fitted = fitted * factor[cell]
        rhythm *= np.tile(factor, _HOURS_OF_WEEK // hours)
    own = past.where(past.series == now.series[0])
    own_level = own.numerator.sum() / (own.denominator * rhythm[own.hour % _HOURS_OF_WEEK]).sum()
    return np.asarray(own_level * now.denominator * rhythm[now.hour % _HOURS_OF_WEEK])


def _ratio_by(label: NDArray[np.int64], numerator: Floats, denominator: Floats, labels: int = 0) -> Floats:
    """The ratio of both sums for each label; 1 where the lower one is 0."""
    above, below = (np.bincount(label, weights, labels).astype(np.float64) for weights in (numerator, denominator))
    return np.divide(above, below, out=np.ones_like(above), where=below > 0)


@dataclass(frozen=True, slots=True)
class Signal:
    """The newest day, and the moving average of days, in standard deviations of past days; and the limit of both."""

    score: float
    smoothed: float
    limit: float
    is_persistent: bool  # whether two thirds of the day agree with its score

    def is_beyond(self, side: int, share: float = 1.0) -> bool:
        """Whether one of both lies beyond this share of the limit, above (`side` 1) or below (-1) what is expected."""
        limit = share * self.limit
        return (self.is_persistent and side * self.score > limit) or side * self.smoothed > limit


def shift(past: Hourly, now: Hourly) -> Shift | None:
    """The hours of `now`, of one series, against what the past expects; the thirds are those of its hours, in order.

    Returns:
        None if the series' past is shorter than a day, or a sum is 0.
    """
    days = float((past.series == now.series[0]).sum() / SPAN_HOURS) if now.hour.size else 0.0
    if days < 1:
        return None
    parts = [(now.numerator, expected(past, now))]
    parts += zip(*(np.array_split(column, _THIRDS) for column in parts[0]), strict=True)
    sums = [(float(observed.sum()), float(fitted.sum())) for observed, fitted in parts]
    if not all(min(pair) > 0 for pair in sums):
        return None
    observed_ratio, expected_ratio = (total / float(now.denominator.sum()) for total in sums[0])
    return Shift(observed_ratio, expected_ratio, tuple(math.log(above / below) for above, below in sums[1:]), days)


def signal(now: Shift, before: Sequence[Shift], undisturbed: Sequence[Shift]) -> Signal | None:
    """The chart's newest point; None: fewer than `MINIMUM_DAYS` undisturbed days.

    Days beyond the limit are no part of the moving average, so that it forgets a large shift when that is over.

    Args:
        before: the shifts of the same series one day ago, two days ago and so on, for the moving average.
        undisturbed: of the days that the standard deviation is estimated from; none of them shares hours with another.
    """
    if len(undisturbed) < MINIMUM_DAYS:
        return None
    deviation = math.sqrt(np.mean([(each.value / each.widening) ** 2 for each in undisturbed]))
    limit = float(stdtrit(len(undisturbed), 1 - FALSE_ALARM))
    scores = np.array([each.value / each.widening for each in (now, *before)]) / deviation
    weights = (1 - SMOOTHING) ** np.arange(len(scores)) * (np.abs(scores) <= limit)
    smoothed = weights @ scores / math.sqrt(weights @ weights) if weights.any() else 0.0
    thirds = np.sign(now.value) * np.array(now.thirds) / (deviation * now.widening)
    return Signal(float(scores[0]), float(smoothed), limit, bool((thirds > limit / 2).sum() >= 2))
