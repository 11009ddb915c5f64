"""Ratios of sums by slice, with the covariance of their errors. Without resampling, because slices may be many."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csc_array
from scipy.special import stdtr, stdtrit

from liftloop.stats.columns import Floats, column, require_same_length
from liftloop.stats.interval import Interval


@dataclass(frozen=True, eq=False)
class LogRatios:
    """log(sum(numerator) / sum(denominator)) of each slice."""

    names: list[str]
    estimate: Floats  # shape (slices,)
    influence: csc_array  # of each block on each estimate, shape (all blocks, slices)
    blocks: NDArray[np.intp]  # that have rows in the slice, shape (slices,)

    @property
    def standard_error(self) -> Floats:
        return sums_error(self.influence)

    def p_above(self, limit: float) -> Floats:
        """One-sided p-value of each ratio being at most `limit`, by Student's t with one degree less than blocks."""
        return one_sided(self.estimate - np.log(limit), self.standard_error, self.blocks)

    def p_below(self, limit: float) -> Floats:
        """One-sided p-value of each ratio being at least `limit`."""
        return one_sided(np.log(limit) - self.estimate, self.standard_error, self.blocks)

    def interval(self, position: int, confidence: float) -> Interval:
        """The ratio of one slice, symmetric on the logarithmic scale."""
        half = stdtrit(self.blocks[position] - 1, (1 + confidence) / 2) * self.standard_error[position]
        centre = self.estimate[position]
        return Interval(*(float(np.exp(each)) for each in (centre, centre - half, centre + half)))


def log_ratios(numerator: ArrayLike, denominator: ArrayLike, values: ArrayLike, blocks: ArrayLike) -> LogRatios:
    """By value, in sorted order; rows of equal `blocks` depend on each other, and may be of several slices.

    Taylor linearization of a ratio over domains (Särndal, Swensson & Wretman 1992, "Model Assisted Survey Sampling",
    sections 5.5 and 5.8). Slices of fewer than two blocks have no degrees of freedom, so their p-values are 1.

    Raises:
        ValueError: lengths differ, a value not finite, or a slice whose sums are not both above 0.
    """
    numerator, denominator = column("numerator", numerator), column("denominator", denominator)
    require_same_length(numerator=numerator, denominator=denominator)
    slice_of_row, names = pd.factorize(np.asarray(values).astype(str), sort=True)
    block_of_row = pd.factorize(np.asarray(blocks))[0]
    sums = [np.bincount(slice_of_row, weights=each) for each in (numerator, denominator)]
    if not all((each > 0).all() for each in sums):
        raise ValueError("every slice needs a numerator and a denominator above 0 in sum")
    influence = numerator / sums[0][slice_of_row] - denominator / sums[1][slice_of_row]
    cells = csc_array((influence, (block_of_row, slice_of_row)))  # entries of one block and slice add up
    return LogRatios([str(name) for name in names], np.log(sums[0] / sums[1]), cells, np.diff(cells.indptr))


def one_sided(distance: Floats, standard_error: Floats, blocks: NDArray[np.intp]) -> Floats:
    """One-sided p-value of a distance above 0; 1 for a single block."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p = stdtr(np.maximum(blocks - 1, 1), -distance / standard_error)
    return np.where((blocks > 1) & np.isfinite(p), p, 1.0)


def sums_error(influence: csc_array) -> Floats:
    """Standard error of each column's sum over blocks, shape (columns,); the sums are 0 by construction."""
    blocks = influence.shape[0]
    squares: Floats = np.asarray(influence.power(2).sum(axis=0), dtype=np.float64)
    return np.asarray(np.sqrt(squares * blocks / max(blocks - 1, 1)))
