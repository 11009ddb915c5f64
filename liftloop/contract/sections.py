"""The sections of a contract: a source's files, and requirements for features, models and the gate."""

import re
from collections import Counter
from datetime import timedelta
from math import inf
from typing import Annotated, Any, Literal, Self
from zoneinfo import available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from liftloop.storage.frozen import Frozen

_DURATION_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LONGEST = timedelta(days=3650)
_PLACEHOLDER = re.compile(r"{(\w+)}")


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


def _parse_zone(value: str) -> str:
    if value not in available_timezones():
        raise ValueError("a zone is an IANA name such as UTC or Europe/Berlin")
    return value


def _require_bounds(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 < value[0] < value[1] < inf:
        raise ValueError("bounds are two numbers above 0, the lower one first")
    return value


def _require_distinct(value: tuple[str, ...]) -> tuple[str, ...]:
    if repeated := sorted(name for name, times in Counter(value).items() if times > 1):
        raise ValueError(f"{repeated} appear more than once")
    return value


Duration = Annotated[timedelta, BeforeValidator(_parse_duration)]
PositiveDuration = Annotated[Duration, Field(gt=timedelta(0))]
Bounds = Annotated[tuple[float, float], AfterValidator(_require_bounds)]
Names = Annotated[tuple[str, ...], AfterValidator(_require_distinct)]
Zone = Annotated[str, BeforeValidator(_parse_zone)]
Share = Annotated[float, Field(ge=0, le=1)]
Reward = Literal["click", "conversion"]
FeatureKey = Literal["ad_id", "placement_id", "campaign_id", "advertiser_id", "site_id", "user_id"]
FeatureKeys = Annotated[tuple[FeatureKey, ...], Field(min_length=1), AfterValidator(_require_distinct)]
FileFormat = Literal["csv", "tsv", "jsonl", "parquet"]


class Column(Frozen):
    """Where one canonical value comes from: exactly one of `from`, `template`, `pick` and `constant`."""

    from_: str | None = Field(default=None, alias="from")
    template: str | None = None  # landed columns joined as text: "{campaign}:{position}"
    pick: str | None = None  # the landed column whose name depends on the row: "affinity_{item_id}"
    constant: str | float | None = None
    scale: float | None = None  # multiplies numbers: 0.01 turns cents into currency units
    time: Literal["text", "epoch_seconds", "epoch_milliseconds"] = "text"
    zone: Zone = "UTC"  # of times without an offset

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        origins = [self.from_, self.template, self.pick, self.constant]
        if sum(origin is not None for origin in origins) != 1:
            raise ValueError("give exactly one of from, template, pick, constant")
        return self


class ContextColumn(Column):
    """A column known at decision time. `about` says what it depends on: the request, the ad, or the pair."""

    type: Literal["string", "integer", "float"]
    about: Literal["request", "ad", "pair"] = "request"


class _PathPattern(Frozen):
    path: str
    format: FileFormat

    def path_parts(self, relative_key: str) -> dict[str, str] | None:
        """The named parts of a key relative to the source's prefix, or None if it does not match."""
        pieces = _PLACEHOLDER.split(self.path)
        named = (re.escape(piece) if i % 2 == 0 else f"(?P<{piece}>[^/]+)" for i, piece in enumerate(pieces))
        match = re.fullmatch("".join(named), relative_key)
        return match.groupdict() if match else None


class Landing(_PathPattern):
    """The files under `landing/<source>/`. The named parts of `path` become landed columns."""

    encoding: Literal["utf-8", "utf-16", "latin-1"] = "utf-8"


class Lookup(_PathPattern):
    """A reference file joined to every row; named parts in `path` are filled from the impressions file's own path."""

    match: dict[str, str]  # landed column -> column of the reference file


class Outcome(Frozen):
    """When rewards become known."""

    delay: Duration = timedelta(0)  # used if no outcome_timestamp is mapped
    horizon: Duration  # the longest time from an impression to its last outcome
    negatives_kept: Annotated[float, Field(gt=0, le=1)] = 1.0  # share of unrewarded impressions that the log kept


class Split(Frozen):
    """Temporal split: the newest matured impressions are held out, the ones before them stop and calibrate."""

    validation: PositiveDuration
    holdout: PositiveDuration


class Training(Frozen):
    """Limits of the search, and constraints on models: monotone numeric columns, and groups of interacting columns."""

    trials: Annotated[int, Field(ge=1)] = 4  # at most
    budget_seconds: Annotated[float, Field(gt=0)] = 600.0  # wall clock time for the trials
    maximum_rounds: Annotated[int, Field(ge=1)] = 200
    seed: int = 7
    monotone: dict[str, Literal["increasing", "decreasing"]] = Field(default_factory=dict)
    interactions: tuple[tuple[str, ...], ...] = ()  # only columns of one group may interact; empty: all may


class Retraining(Frozen):
    """When new features start a training; the daily schedule and a degraded champion start one regardless."""

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
    calibration_ratio: Bounds = (0.8, 1.25)  # predicted over observed rewards
    calibration_error: Annotated[float, Field(gt=0)] = 0.3  # relative to the mean rate
    worst_slice_entropy: Annotated[float, Field(gt=0)] = 1.1  # normalized entropy that no large slice may exceed
    slice_calibration_ratio: Bounds = (0.5, 2.0)  # predicted over observed rewards of each large slice
    slices: Names = ("placement_id",)
    groups: Names = ()  # columns between whose values calibration must be equal
    group_calibration_spread: Annotated[float, Field(ge=1)] = 2.0  # highest over lowest calibration ratio of groups
    minimum_effective_sample_size: Annotated[int, Field(ge=1)] = 2000  # large, because rewards are rare
    overlap: OverlapPolicy = OverlapPolicy()
    single_feature_auc: Annotated[float, Field(gt=0.5, le=1)] = 0.9  # above it, a single column leaks the outcome
    stale_after: Duration = timedelta(days=2)  # of matured impressions newer than the hold-out
    latency_p99_milliseconds: Annotated[float, Field(gt=0)] = 20.0  # processor time for scoring 50 ads
    model_bytes: Annotated[int, Field(ge=1)] = 50_000_000  # of everything that a process loads to serve the model


def placeholders(template: str) -> list[str]:
    """The names in braces, in order: `{campaign}:{position}` -> ["campaign", "position"]."""
    return _PLACEHOLDER.findall(template)
