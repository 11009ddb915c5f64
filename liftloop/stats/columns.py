"""Validated columns: the requirements that all statistics share, with the same error messages."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

PROBABILITY_FLOOR = 1e-12  # a certain and wrong prediction costs 27.6 nats, not infinity


def column(name: str, values: ArrayLike) -> Floats:
    """`values` as float64 of shape (rows,).

    Raises:
        ValueError: not one-dimensional, no rows, or a value that is not finite.
    """
    floats = np.asarray(values, dtype=np.float64)
    if floats.ndim != 1 or floats.size == 0:
        raise ValueError(f"{name}: expected one value per row and at least one row, got shape {floats.shape}")
    require(name, floats, np.isfinite(floats), "finite")
    return floats


def shares(name: str, values: ArrayLike) -> Floats:
    """A column of probabilities, or of anything else in [0, 1]."""
    floats = column(name, values)
    require(name, floats, (floats >= 0) & (floats <= 1), "in [0, 1]")
    return floats


def binary(name: str, values: ArrayLike) -> Floats:
    """A column of zeros and ones that has both."""
    floats = column(name, values)
    require(name, floats, (floats == 0) | (floats == 1), "0 or 1")
    if floats.min() == floats.max():
        raise ValueError(f"{name}: all {floats.size} rows are {floats[0]:g}; both 0 and 1 are needed")
    return floats


def require(name: str, values: Floats, is_valid: NDArray[np.bool_], rule: str) -> None:
    """Require that all values follow `rule`; the message counts the others and shows the first.

    Raises:
        ValueError: some do not.
    """
    bad = np.flatnonzero(~is_valid)
    if bad.size:
        first = int(bad[0])
        raise ValueError(
            f"{name}: {bad.size} of {values.size} rows are not {rule}, first {values[first]} at row {first}"
        )


def require_same_length(**columns: NDArray[Any]) -> None:
    """Require columns of equal length.

    Raises:
        ValueError: lengths differ.
    """
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError("lengths differ: " + ", ".join(f"{name} has {rows}" for name, rows in lengths.items()))


def ranks(values: Floats) -> Floats:
    """The rank of each value, from 1; equal values share the mean of theirs."""
    _, position, rows = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(rows) - (rows - 1) / 2
    return np.asarray(mean_rank[position], dtype=np.float64)
