"""How well a single column predicts the reward: if too well to be true, it was recorded after the outcome."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liftloop.stats.columns import Floats, binary
from liftloop.stats.scoring import area_under_roc

BINS = 64  # of a number, by equal mass; missing is one more
RARE_ROWS = 20  # a rarer category shares its bin with the others like it
PRIOR_ROWS = 20.0  # the weight of the mean rate in each bin
CHANCE = 1e-6  # of a false alarm from a pure bin, per column


@dataclass(frozen=True)
class SingleFeature:
    """How well one column alone predicts the reward."""

    area_under_roc: float  # of rates by bin, fitted on one half of the rows and scored on the other, both ways
    pure_rows: int  # of a bin with nothing but rewards that is too large to be chance; 0: there is none


def single_feature(reward: Floats, values: "pd.Series[Any]") -> SingleFeature:
    """A univariate fit: the rate of each bin, shrunk to the mean rate.

    The alarm follows Kaufman, Rosset & Perlich 2012, "Leakage in Data Mining": a column that predicts too well to be
    true. A column known only after the outcome is present, or missing, exactly where there is a reward, so one of its
    bins is pure. The p-value of a pure bin assumes a reward probability of the mean rate, and of at least one half.

    Raises:
        ValueError: rewards other than 0 and 1, or only one of them in one half of the rows.
    """
    reward, bin_of_row = binary("reward", reward), binned(values)
    is_even = np.arange(reward.size) % 2 == 0
    areas = [_area(reward, bin_of_row, is_learned) for is_learned in (is_even, ~is_even)]
    return SingleFeature(float(np.mean(areas)), _pure_rows(reward, bin_of_row))


def binned(values: "pd.Series[Any]") -> NDArray[np.intp]:
    """The bin of each row: a range of numbers, or one category; missing values have their own bin."""
    if pd.api.types.is_numeric_dtype(values):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        is_known = np.isfinite(numbers)
        if not is_known.any():
            return np.zeros(len(values), dtype=np.intp)
        edges = np.unique(np.quantile(numbers[is_known], np.arange(1, BINS) / BINS))
        return np.where(is_known, np.searchsorted(edges, numbers) + 1, 0).astype(np.intp)
    codes = pd.factorize(values)[0] + 2
    rows = np.bincount(codes, minlength=2)
    return np.where((codes > 1) & (rows[codes] < RARE_ROWS), 0, codes).astype(np.intp)


def _area(reward: Floats, bin_of_row: NDArray[np.intp], is_learned: NDArray[np.bool_]) -> float:
    size = int(bin_of_row.max()) + 1
    rows = np.bincount(bin_of_row[is_learned], minlength=size)
    rewards = np.bincount(bin_of_row[is_learned], weights=reward[is_learned], minlength=size)
    rate = (rewards + PRIOR_ROWS * reward[is_learned].mean()) / (rows + PRIOR_ROWS)
    return area_under_roc(reward[~is_learned], rate[bin_of_row[~is_learned]])


def _pure_rows(reward: Floats, bin_of_row: NDArray[np.intp]) -> int:
    rows, rewards = np.bincount(bin_of_row), np.bincount(bin_of_row, weights=reward)
    chance = np.count_nonzero(rows) * max(0.5, float(reward.mean())) ** rows
    return int(np.where((rows > 0) & (rewards == rows) & (chance < CHANCE), rows, 0).max())
