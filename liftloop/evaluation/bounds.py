"""The contract's bounds on a champion's predictions and decisions, each with persistence.

Of three days, two beyond a bound make a fault, or the newest beyond twice the bound (zone rules with the contract's
bounds as zones: Western Electric 1956, "Statistical Quality Control Handbook"). They need no history of the version.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf

import numpy as np
import pandas as pd

from liftloop.contract.sections import GatePolicy
from liftloop.evaluation.course import Course
from liftloop.evaluation.records import Fault
from liftloop.stats.interval import BootstrapOptions, Interval, bootstrap_ratio, is_outside
from liftloop.stats.scoring import log_loss

MINIMUM_HOURS = 6  # of a day: an interval from fewer is too narrow
_DAY, _DAYS = timedelta(days=1), 3
_TWO_OF_THREE = 2 / 3


@dataclass(frozen=True)
class Bound:
    """A figure of one day, whose interval over the day's hours is held against bounds, and against twice the bounds."""

    name: str
    words: str
    measure: Callable[[pd.DataFrame, BootstrapOptions], Interval]
    bounds: tuple[float, float]
    twice: tuple[float, float]


def bound_faults(policy: GatePolicy, course: Course, version: str, until: datetime, seed: int) -> list[Fault]:
    """Calibration out of the contract's bounds, or predictions that are worse than the mean rate."""
    hours = course.hours[(course.hours["version"] == version) & (course.hours["hour"] < until)]
    days = list(_newest_days(hours, until, policy.minimum_rewards))
    options = BootstrapOptions(seed=seed, resamples=policy.resamples, confidence=policy.confidence)
    found = (_fault(bound, course.ongoing.get(bound.name), days, options) for bound in _bounds(policy))
    return [fault for fault in found if fault]


def decision_fault(policy: GatePolicy, course: Course, until: datetime) -> Fault | None:
    """Decisions worth less than the logged ones in two of three evaluations of the last day, or of the newest three."""
    needed = policy.minimum_effective_sample_size
    told = [(end, value) for end, value in course.decisions if value.effective_sample_size >= needed]
    recent = [each for each in told if each[0] > until - _DAY]
    recent = recent if len(recent) >= _DAYS else told[-_DAYS:]
    below = [end for end, value in recent if value.is_below_logged]
    if len(below) < 2 or len(below) < _TWO_OF_THREE * len(recent):
        return None
    ongoing = course.ongoing.get("decisions")
    counts = f"in {len(below)} of the {len(recent)} newest evaluations that can tell"
    words = f"Decisions are worth less than the logged ones {counts}. {recent[-1][1].words}"
    return Fault(name="decisions", since=ongoing.since if ongoing else below[0], words=words, is_new=ongoing is None)


def _bounds(policy: GatePolicy) -> tuple[Bound, ...]:
    low, high = policy.calibration_ratio
    outside = f"outside {low:g} to {high:g}"
    return (
        Bound("calibration bounds", f"Predicted / observed rewards, {outside}", _ratio, (low, high), (low**2, high**2)),
        Bound("mean rate", "Normalized entropy, worse than the mean rate", _entropy, (0, 1), (0, inf)),
    )


def _ratio(day: pd.DataFrame, options: BootstrapOptions) -> Interval:
    return bootstrap_ratio(day["predicted"], day["rewards"], **options)


def _entropy(day: pd.DataFrame, options: BootstrapOptions) -> Interval:
    rate = [day["rewards"].sum() / day["impressions"].sum()]
    return bootstrap_ratio(day["log_loss"], day["impressions"] * log_loss(rate, rate), **options)


def _fault(bound: Bound, ongoing: Fault | None, days: list[pd.DataFrame], options: BootstrapOptions) -> Fault | None:
    """None: the newest day is within bounds, or alone and not beyond twice the bounds."""
    newest = bound.measure(days[0], options) if days else None
    if newest is None or not is_outside(newest, bound.bounds):
        return None
    outside = [day for day in days[1:] if is_outside(bound.measure(day, options), bound.bounds)]
    if not (ongoing or outside or is_outside(newest, bound.twice)):
        return None
    since = ongoing.since if ongoing else [*days[:1], *outside][-1]["hour"].iloc[0].to_pydatetime()
    words = f"{bound.words}: {newest:.3f} in the newest day, and so in {len(outside)} of the {len(days) - 1} before it."
    return Fault(name=bound.name, since=since, words=words, is_new=ongoing is None)


def _newest_days(hours: pd.DataFrame, until: datetime, minimum_rewards: int) -> Iterator[pd.DataFrame]:
    """Up to three spans of whole hours, newest first: each of a day, or longer if it needs that for its rewards."""
    rewards_before, end = np.append(0.0, hours["rewards"].cumsum()), len(hours)
    for _ in range(_DAYS):
        enough = int(np.searchsorted(rewards_before, rewards_before[end] - minimum_rewards, side="right")) - 1
        if enough < 0:
            return
        start = min(enough, int(hours["hour"].searchsorted(pd.Timestamp(until - _DAY))))
        if end - start >= MINIMUM_HOURS:
            yield hours.iloc[start:end]
        until, end = hours["hour"].iloc[start], start
