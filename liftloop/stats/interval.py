"""Bootstrap intervals: dependent rows, such as those of one user or one hour, are resampled together."""

import math
from dataclasses import dataclass
from typing import Required, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, stdtrit

from liftloop.stats.columns import Floats, column, require, require_same_length

MAX_UNITS = 2_000  # more are pooled: see _pooled
CHUNK_RESAMPLES = 250  # at a time, so that the draws take 4 MB for any number of resamples


class BootstrapOptions(TypedDict, total=False):
    """The keywords of a bootstrap, for functions that end in one."""

    seed: Required[int]
    blocks: ArrayLike | None
    resamples: int
    confidence: float


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its confidence limits. `f"{interval:.2%}"` formats all three alike."""

    estimate: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.estimate <= self.high:
            raise ValueError(f"estimate {self.estimate} is not within [{self.low}, {self.high}]")

    def __format__(self, spec: str) -> str:
        spec = spec or ".4g"
        return f"{self.estimate:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    def __str__(self) -> str:
        return format(self, "")


def bootstrap_mean(
    values: ArrayLike,
    *,
    blocks: ArrayLike | None = None,
    resamples: int = 1000,
    seed: int,
    confidence: float = 0.95,
) -> Interval:
    """Mean of `values`, shape (rows,); give per-row differences of two models for a paired comparison.

    Options and errors as `bootstrap_ratio`.
    """
    values = column("values", values)
    return bootstrap_ratio(
        values, np.ones_like(values), blocks=blocks, resamples=resamples, seed=seed, confidence=confidence
    )


def bootstrap_ratio(
    numerator: ArrayLike,
    denominator: ArrayLike,
    *,
    blocks: ArrayLike | None = None,
    resamples: int = 1000,
    seed: int,
    confidence: float = 0.95,
) -> Interval:
    """sum(numerator) / sum(denominator), each of shape (rows,), by resampling whole blocks.

    CTR is clicks over ones; normalized entropy is the model's per-row log loss over that of the mean rate, held fixed.
    `blocks` labels the rows (integers or strings) that depend on each other; without it each row stands alone.
    Percentile limits, their tails widened for few blocks (the expanded percentile interval of Hesterberg 2015, "What
    Teachers Should Know About the Bootstrap"); under about six blocks they are still too narrow. The same rows in
    another order give the same interval. A limit is infinite where too many resamples have a zero denominator.

    Raises:
        ValueError: a value not finite, a negative denominator or none above 0, fewer than two blocks, lengths differ.
    """
    rows = _rows(numerator, denominator)
    _require_valid_options(resamples, confidence)
    rng = np.random.default_rng(seed)
    units = _pooled(_units(rows, blocks), rng)
    estimate, ratios = _ratio(units.sum(axis=0)), _ratio(_resampled_sums(units, resamples, rng))
    return _percentile_interval(float(estimate), ratios, _tail(confidence, len(units)))


def _require_valid_options(resamples: int, confidence: float) -> None:
    if resamples < 1:
        raise ValueError(f"resamples={resamples}: at least 1 is needed, 1000 for 95 % limits")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}: must be between 0 and 1, such as 0.95")


def _rows(numerator: ArrayLike, denominator: ArrayLike) -> Floats:
    numerators, denominators = column("numerator", numerator), column("denominator", denominator)
    require_same_length(numerator=numerators, denominator=denominators)
    require("denominator", denominators, denominators >= 0, "0 or more")
    if not denominators.any():
        raise ValueError(f"denominator: all {denominators.size} rows are 0, so the ratio is undefined")
    return np.column_stack([numerators, denominators])


def _units(rows: Floats, blocks: ArrayLike | None) -> Floats:
    """Sums by resampling unit, shape (units, 2), in an order that does not depend on the order of the rows."""
    units = rows[np.lexsort(rows.T)] if blocks is None else _block_sums(rows, np.asarray(blocks))
    if len(units) < 2:
        raise ValueError(f"{len(units)} block in {len(rows)} rows: an interval needs at least two blocks")
    return units


def _block_sums(rows: Floats, blocks: NDArray[np.generic]) -> Floats:
    if blocks.shape != (len(rows),):
        raise ValueError(f"blocks: expected one label for each of {len(rows)} rows, got shape {blocks.shape}")
    try:
        has_missing = bool((blocks != blocks).any())  # as NaN and NaT are; None and NA cannot be compared at all
        _, block_of_row = np.unique(blocks, return_inverse=True)
    except TypeError:
        has_missing = True
    if has_missing:
        raise ValueError("blocks: labels must be all integers or all strings, none missing; drop or name such rows")
    return _sums_by(block_of_row, rows)


def _pooled(units: Floats, rng: np.random.Generator) -> Floats:
    """At most MAX_UNITS units, by adding units up in random pools of equal size.

    Pools of exchangeable units are exchangeable, and over random pools the expected bootstrap variance equals the
    variance over the units; 2,000 pools add 1.6 % of noise to the width, less than the 4 % of 1,000 resamples.
    """
    if len(units) <= MAX_UNITS:
        return units
    return _sums_by(rng.permutation(len(units)) % MAX_UNITS, units)


def _sums_by(group: NDArray[np.intp], rows: Floats) -> Floats:
    return np.column_stack([np.bincount(group, weights=values) for values in rows.T])


def _resampled_sums(units: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    """Shape (resamples, 2): sums over a resample of all units, drawn with replacement."""
    chunks = []
    for start in range(0, resamples, CHUNK_RESAMPLES):
        size = (min(CHUNK_RESAMPLES, resamples - start), len(units))
        drawn = rng.integers(len(units), size=size)
        chunks.append(np.column_stack([values.take(drawn).sum(axis=1) for values in units.T]))
    return np.concatenate(chunks)


def _ratio(sums: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(sums[..., 0] / sums[..., 1])


def _tail(confidence: float, units: int) -> float:
    """The probability in each tail, smaller with few units."""
    return float(ndtr(math.sqrt(units / (units - 1)) * stdtrit(units - 1, (1 - confidence) / 2)))


def _percentile_interval(estimate: float, ratios: Floats, tail: float) -> Interval:
    """An undefined ratio (0 / 0) could be anything: it counts below the low limit and above the high one."""
    low = np.quantile(np.where(np.isnan(ratios), -np.inf, ratios), tail, method="lower")
    high = np.quantile(np.where(np.isnan(ratios), np.inf, ratios), 1 - tail, method="higher")
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate))  # rounding on constant values


def is_outside(interval: Interval, bounds: tuple[float, float]) -> bool:
    """Whether the whole interval lies below or above the bounds."""
    return interval.high < bounds[0] or interval.low > bounds[1]
