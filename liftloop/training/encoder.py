"""Raw columns to the numbers that XGBoost reads. Fitted once, kept as JSON with the model.

Dask and pandas number categories anew in every frame (dmlc/xgboost #9678), so the codes are ours.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

MINIMUM_OCCURRENCES = 20  # a rarer category teaches its own few rows by heart


class Encoder(BaseModel):
    """Which categories are known, by column, and which columns are numbers. A category's code is its position."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    categories: dict[str, tuple[str, ...]]
    numbers: tuple[str, ...]

    @classmethod
    def fit(cls, counts: Mapping[str, Mapping[str, int]], numbers: Iterable[str]) -> Self:
        """Learn the categories from how often each value occurs, by column, in the training part alone."""
        known = {name: _frequent(values) for name, values in sorted(counts.items())}
        return cls(categories=known, numbers=tuple(numbers))

    @property
    def columns(self) -> list[str]:
        """The columns read, in the order of what `encode` returns."""
        return [*self.categories, *self.numbers]

    @property
    def feature_types(self) -> list[str]:
        """XGBoost's word for each column: `c`ategory or `q`uantity."""
        return ["c"] * len(self.categories) + ["q"] * len(self.numbers)

    def encode(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Codes and numbers as float32, shape (rows, columns); NaN where missing, rare, unseen or not finite.

        Raises:
            ValueError: a column is missing.
        """
        if missing := [name for name in self.columns if name not in rows]:
            raise ValueError(f"columns {missing} are missing; the model reads {self.columns}")
        encoded = np.empty((len(rows), len(self.columns)), dtype=np.float32)
        for position, name in enumerate(self.categories):
            encoded[:, position] = self._codes(name, rows[name])
        encoded[:, len(self.categories) :] = _finite(rows[list(self.numbers)])
        return pd.DataFrame(encoded, index=rows.index, columns=self.columns)

    def _codes(self, name: str, values: "pd.Series[str]") -> NDArray[np.float64]:
        codes = self._indexes[name].get_indexer(pd.Index(values, dtype=object))
        return np.where(codes < 0, np.nan, codes)

    @cached_property
    def _indexes(self) -> dict[str, "pd.Index[str]"]:
        return {name: pd.Index(known, dtype=object) for name, known in self.categories.items()}


def _frequent(occurrences: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(sorted(value for value, count in occurrences.items() if count >= MINIMUM_OCCURRENCES))


def _finite(values: pd.DataFrame) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # too large for float32 is not finite either
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan).astype(np.float32)
    return np.where(np.isfinite(numbers), numbers, np.float32(np.nan))
