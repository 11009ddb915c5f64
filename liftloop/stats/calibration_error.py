"""How far predicted rates are from observed rates, corrected for chance."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from liftloop.stats.columns import Floats, column, require_same_length, shares
from liftloop.stats.interval import Interval
from liftloop.stats.scoring import mass_bins


def calibration_error(
    reward: ArrayLike,
    probability: ArrayLike,
    *,
    blocks: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    bins: int = 10,
    confidence: float = 0.95,
) -> Interval:
    """Debiased expected calibration error: root mean square of predicted minus observed rate over equal-mass bins.

    Each bin's squared gap minus its variance, which is the expected squared gap of a perfect model (Bröcker 2012,
    "Estimating reliability and resolution of probability forecasts"; Kumar, Liang & Ma 2019, "Verified Uncertainty
    Calibration", section 5). The variance is of sums over `blocks`; the limits assume normal gaps and independent
    bins. A negative square is reported as 0: no error is detectable.

    Raises:
        ValueError: lengths differ, or a reward or probability outside [0, 1].
    """
    reward, probability = shares("reward", reward), shares("probability", probability)
    weights = np.ones_like(reward) if weight is None else column("weight", weight)
    require_same_length(reward=reward, probability=probability, weight=weights)
    bin_of_row = mass_bins(probability, bins, weights)
    block_of_row = np.arange(reward.size) if blocks is None else pd.factorize(np.asarray(blocks))[0]
    mass = np.bincount(bin_of_row, weights=weights)
    gap = np.bincount(bin_of_row, weights=weights * (probability - reward)) / mass
    deviation = weights * (probability - reward - gap[bin_of_row])
    variance = _clustered_sums(deviation, bin_of_row, block_of_row, len(mass)) / mass**2
    share, true_square = mass / mass.sum(), np.maximum(gap**2 - variance, 0)
    square = float((share * (gap**2 - variance)).sum())
    spread = float(np.sqrt((share**2 * (4 * true_square * variance + 2 * variance**2)).sum()))
    half = ndtri((1 + confidence) / 2) * spread
    return Interval(*(float(np.sqrt(max(each, 0.0))) for each in (square, square - half, square + half)))


def _clustered_sums(
    deviation: Floats, bin_of_row: NDArray[np.intp], block_of_row: NDArray[np.intp], bins: int
) -> Floats:
    """The variance of each bin's sum, with the rows of one block in one bin as one observation."""
    cell, cell_of_row = np.unique(block_of_row * bins + bin_of_row, return_inverse=True)
    squares = np.square(np.bincount(cell_of_row, weights=deviation))
    members = np.bincount(cell % bins, minlength=bins)
    return np.asarray(np.bincount(cell % bins, weights=squares, minlength=bins) * members / np.maximum(members - 1, 1))
