"""The sections of a contract: a source's files, and requirements for features, models and the gate."""

import re
from datetime import timedelta
from math import ceil, inf
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from liftloop.contract.files import repeated_in
from liftloop.storage.frozen import Frozen

_DURATION_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LONGEST = timedelta(days=3650)


def _parse_duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"(\d{1,9})([smhd])", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a duration is a whole number and one of s, m, h, d, such as 30m or 2d")
    duration = timedelta(**{_DURATION_UNITS[match[2]]: int(match[1])})
    if duration > _LONGEST:
        raise ValueError(f"a duration is at most {_LONGEST.days}d")
    return duration


def _require_bounds(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 < value[0] < value[1] < inf:
        raise ValueError("bounds are two numbers above 0, the lower one first")
    return value


def _require_distinct(value: tuple[str, ...]) -> tuple[str, ...]:
    if repeated := sorted(repeated_in(value)):
        raise ValueError(f"{repeated} appear more than once")
    return value


def _require_whole_hours(value: timedelta) -> timedelta:
    if value % timedelta(hours=1):
        hours = ceil(value / timedelta(hours=1))
        raise ValueError(f"{value} is no whole number of hours, and features change by the hour: write {hours}h")
    return value


Duration = Annotated[timedelta, BeforeValidator(_parse_duration)]
FullHours = Annotated[Duration, Field(le=timedelta(days=7)), AfterValidator(_require_whole_hours)]
PositiveDuration = Annotated[Duration, Field(gt=timedelta(0))]
Bounds = Annotated[tuple[float, float], AfterValidator(_require_bounds)]
Names = Annotated[tuple[str, ...], AfterValidator(_require_distinct)]
Share = Annotated[float, Field(ge=0, le=1)]
Reward = Literal["click", "conversion"]
Objective = Literal["clicks", "conversions", "revenue", "margin"]
FeatureKey = Literal["ad_id", "placement_id", "campaign_id", "advertiser_id", "site_id", "user_id"]
FeatureKeys = Annotated[tuple[FeatureKey, ...], Field(min_length=1), AfterValidator(_require_distinct)]


class Outcome(Frozen):
    """When rewards become known."""

    delay: Duration = timedelta(0)  # used if no outcome_timestamp is mapped
    horizon: Duration  # the longest time from an impression to its last outcome
    conversion_requires_click: bool = True  # false: conversions after a mere view count, too
    negatives_kept: Annotated[float, Field(gt=0, le=1)] = 1.0  # share of unrewarded impressions that the log kept


_LARGEST = 1e15  # amounts are summed as DECIMAL(38, 9)


class Amounts(Frozen):
    """The limits of revenue and cost of one impression, in the currency of the log; negative ones are refunds."""

    minimum: float = 0
    maximum: float = 1_000_000

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not -_LARGEST <= self.minimum < self.maximum <= _LARGEST:
            raise ValueError(f"minimum and maximum are two numbers within {_LARGEST:g}, the lower one first")
        return self


class Split(Frozen):
    """Temporal split: the newest matured impressions are held out, the ones before them stop and calibrate."""

    validation: PositiveDuration
    holdout: PositiveDuration


class Training(Frozen):
    """Limits of the search, and constraints on models: monotone numeric columns, and groups of interacting columns."""

    trials: Annotated[int, Field(ge=1)] = 4  # at most
    budget_seconds: Annotated[float, Field(gt=0)] = 600.0  # wall clock time for the trials
    window: PositiveDuration | None = None  # of the training part; None: all history before the validation part
    maximum_rounds: Annotated[int, Field(ge=1)] = 200
    seed: int = 7
    monotone: dict[str, Literal["increasing", "decreasing"]] = Field(default_factory=dict)
    interactions: tuple[tuple[str, ...], ...] = ()  # only columns of one group may interact; empty: all may


class Retraining(Frozen):
    """When new features start a training; a schedule and a degraded champion start one regardless."""

    new_impressions_share: Annotated[float, Field(gt=0)] = 0.05  # newly matured, relative to the newest model's frame


class OverlapPolicy(Frozen):
    """The overlap between log and model decisions that a trustworthy off-policy value requires."""

    max_weight: Annotated[float, Field(gt=0)] = 1000.0  # clip of target probability over propensity
    clipped_share: Share = 0.01  # of impressions, at most
    mean_weight_tolerance: Annotated[float, Field(gt=0)] = 0.1  # the mean weight is 1 if the propensities are correct
    unsupported_mass: Share = 0.05  # of the decisions, for ads that the log never shows in their place
    largest_reward_share: Share = 0.2  # of a single impression in all weighted rewards, at most


class GatePolicy(Frozen):
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    resamples: Annotated[int, Field(ge=100)] = 1000
    power: Annotated[float, Field(gt=0.5, lt=1)] = 0.8  # of the minimum detectable effect
    meaningful_effect: Annotated[float, Field(gt=0, lt=1)] = 0.005  # reduction of log loss; less counts as none
    minimum_rewards: Annotated[int, Field(ge=1)] = 100  # in the hold-out; with fewer, the verdict is inconclusive
    winsorized_share: Annotated[float, Field(ge=0, lt=0.5)] = (
        0.001  # of rewards: amounts above the rest count as its most
    )
    exchangeable_days: bool = False  # whether rates do not move from day to day, so that two days say as much as ten
    calibration_ratio: Bounds = (0.8, 1.25)  # predicted over observed rewards
    calibration_error: Annotated[float, Field(gt=0)] = 0.3  # relative to the mean rate
    worst_slice_entropy: Annotated[float, Field(gt=0)] = 1.1  # normalized entropy that no large slice may exceed
    slice_calibration_ratio: Bounds = (0.5, 2.0)  # predicted over observed rewards of each large slice
    slices: Names = ("placement_id",)
    groups: Names = ()  # columns between whose values calibration must be equal
    group_calibration_spread: Annotated[float, Field(ge=1)] = 2.0  # highest over lowest calibration ratio of groups
    decision_margin: Annotated[float, Field(gt=0, lt=1)] = 0.05  # of a rival's value, that decisions may lose
    minimum_effective_sample_size: Annotated[int, Field(ge=1)] = 2000  # large, because rewards are rare
    overlap: OverlapPolicy = OverlapPolicy()
    single_feature_auc: Annotated[float, Field(gt=0.5, le=1)] = 0.9  # above it, a single column leaks the outcome
    stale_after: Duration = timedelta(days=2)  # of matured impressions newer than the hold-out
    latency_p99_milliseconds: Annotated[float, Field(gt=0)] = 20.0  # processor time for scoring 50 ads
    model_bytes: Annotated[int, Field(ge=1)] = 50_000_000  # of everything that a process loads to serve the model
