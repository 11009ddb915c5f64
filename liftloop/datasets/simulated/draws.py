"""Vectorized random draws that numpy does not offer."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Names = Sequence[str] | NDArray[np.str_]


class ConditionalDraw:
    """Draws a category given a group, from a table `probability` of shape (groups, categories) whose rows sum to 1."""

    def __init__(self, probability: FloatArray) -> None:
        groups, categories = probability.shape
        # Group g owns the interval [g, g + 1), so that one sorted search serves every group at once.
        bounds = np.arange(groups)[:, None] + np.cumsum(probability, axis=1)[:, :-1]
        self._bounds, self._bounds_per_group = bounds.ravel(), categories - 1

    def __call__(self, rng: np.random.Generator, group: IntArray) -> IntArray:
        """One category for each element of `group`; both have shape (n,)."""
        below = np.searchsorted(self._bounds, group + rng.random(len(group)), side="right")
        category: IntArray = below - group * self._bounds_per_group
        return category


def heavy_tailed_delay_ms(
    rng: np.random.Generator, count: int, *, scale_seconds: float, shape: float, limit_seconds: float
) -> IntArray:
    """Whole milliseconds in (0, limit]: a truncated Lomax (shifted Pareto) distribution, drawn by its inverse CDF."""
    share_within_limit = 1 - (1 + limit_seconds / scale_seconds) ** -shape
    seconds: FloatArray = scale_seconds * ((1 - rng.random(count) * share_within_limit) ** (-1 / shape) - 1)
    return np.ceil(seconds * 1000).astype(np.int64).clip(1, int(limit_seconds * 1000))
