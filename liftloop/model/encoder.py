"""Encodes raw columns as the numbers that XGBoost reads. Fitted once, stored as JSON with the model.

Dask and pandas assign category codes separately in every frame (dmlc/xgboost #9678), so we assign our own.

Two stages: each raw column becomes a number (`to_codes`), then the model's columns are computed from these codes
(`to_features`). So an impression and its competing ads can be encoded separately and combined in between.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, FiniteFloat

from liftloop.storage.frozen import Frozen

MINIMUM_OCCURRENCES = 20  # a model would overfit rarer categories
KNOWN_OCCURRENCES = 2  # values that occur only once represent unseen ones
KNOWN_VALUES = 20_000  # of one column, the most frequent: tables stay small, because they are stored with the model

Matrix = NDArray[np.float32]


class Lookup(Frozen):
    """A model column by lookup: a value for each known code of one text column or a pair."""

    columns: tuple[str, ...]
    codes: tuple[int, ...]  # ascending; for a pair: first * KNOWN_VALUES + second
    values: tuple[FiniteFloat, ...]

    def find(self, codes: NDArray[np.float64]) -> Matrix:
        """The values of codes, shape (rows,); NaN for missing and unknown codes."""
        known, values = self._arrays
        place = np.searchsorted(known, codes).clip(max=len(known) - 1)
        return np.where(known[place] == codes, values[place], np.float32(np.nan))

    @cached_property
    def _arrays(self) -> tuple[NDArray[np.float64], Matrix]:
        return np.array(self.codes, dtype=np.float64), np.array(self.values, dtype=np.float32)


class Encoder(Frozen):
    """The categories of text columns, the numeric columns, and which columns of the model derive from them.

    A category's code is its position. `categorical` gives the number of a text column's leading categories that XGBoost
    reads as categories; other text columns enter only by their lookups, and None means all categories of all columns.
    Of the columns in `presence` a model reads only whether there is a value.
    """

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    categories: dict[str, tuple[str, ...]]
    numbers: tuple[str, ...]
    categorical: dict[str, int] | None = Field(default=None, alias="native")  # as stored: hashes name versions
    presence: tuple[str, ...] = ()
    lookups: dict[str, Lookup] = Field(default_factory=dict)

    @classmethod
    def fit(cls, counts: Mapping[str, Mapping[str, int]], numbers: Iterable[str], presence: Iterable[str] = ()) -> Self:
        """The encoder with the known values of each column, given how often they occur in the training part."""
        known = {name: _known(values) for name, values in sorted(counts.items())}
        categorical = {name: sum(counts[name][value] >= MINIMUM_OCCURRENCES for value in known[name]) for name in known}
        return cls(categories=known, numbers=tuple(numbers), categorical=categorical, presence=tuple(presence))

    @property
    def raw_columns(self) -> list[str]:
        """The raw columns, in the order of `to_codes`."""
        return [*self.categories, *self.numbers, *self.presence]

    @property
    def columns(self) -> list[str]:
        """The model's columns, in the order of `encode`."""
        return [*self._categorical, *self.numbers, *self.presence_columns, *self.lookups]

    @property
    def sources(self) -> dict[str, tuple[str, ...]]:
        """The raw columns that each of the model's columns is computed from."""
        plain = {name: (name,) for name in (*self._categorical, *self.numbers)}
        plain |= {known: (name,) for known, name in self.presence_columns.items()}
        return plain | {name: lookup.columns for name, lookup in self.lookups.items()}

    @property
    def feature_types(self) -> list[str]:
        """XGBoost's type of each of the model's columns: `c`ategory or `q`uantity."""
        return ["c"] * len(self._categorical) + ["q"] * (len(self.numbers) + len(self.presence) + len(self.lookups))

    def select(self, columns: Iterable[str]) -> Self:
        """The encoder for these model columns only, reading only the raw columns that they need."""
        kept = set(columns)
        read = {raw for name in kept for raw in self.sources[name]}
        return type(self)(
            categories={name: known for name, known in self.categories.items() if name in read},
            numbers=tuple(name for name in self.numbers if name in kept),
            categorical={name: count for name, count in self._categorical.items() if name in kept},
            presence=tuple(name for known, name in self.presence_columns.items() if known in kept),
            lookups={name: lookup for name, lookup in self.lookups.items() if name in kept},
        )

    def encode(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The model's columns as float32, shape (rows, columns); NaN where missing, rare, unseen or not finite.

        Raises:
            ValueError: a column is missing.
        """
        return pd.DataFrame(self.to_features(self.to_codes(rows)), index=rows.index, columns=self.columns)

    def to_codes(self, rows: pd.DataFrame) -> Matrix:
        """Every raw column as numbers, shape (rows, raw columns): text as codes; NaN where missing or unknown.

        Raises:
            ValueError: a column is missing.
        """
        if missing := [name for name in self.raw_columns if name not in rows]:
            raise ValueError(f"columns {missing} are missing; the model reads {self.raw_columns}")
        coded = np.empty((len(rows), len(self.raw_columns)), dtype=np.float32)
        for position, name in enumerate(self.categories):
            coded[:, position] = self.codes(name, rows[name])
        first, last = len(self.categories), len(self.categories) + len(self.numbers)
        coded[:, first:last] = _finite(rows[list(self.numbers)])
        coded[:, last:] = rows[list(self.presence)].notna()
        return coded

    def to_features(self, coded: Matrix) -> Matrix:
        """The model's columns, shape (rows, columns), from the result of `to_codes`."""
        place = {name: position for position, name in enumerate(self.raw_columns)}
        derived = np.empty((len(coded), len(self.columns)), dtype=np.float32)
        for position, (name, count) in enumerate(self._categorical.items()):
            codes = coded[:, place[name]]
            derived[:, position] = np.where(codes < count, codes, np.nan)
        first = len(self._categorical) + len(self.numbers) + len(self.presence)
        derived[:, len(self._categorical) : first] = coded[:, len(self.categories) :]
        for position, lookup in enumerate(self.lookups.values(), start=first):
            parts = [coded[:, place[name]].astype(np.float64) for name in lookup.columns]
            derived[:, position] = lookup.find(joint_codes(parts))
        return derived

    def codes(self, name: str, values: "pd.Series[str]") -> NDArray[np.float64]:
        """The codes of one text column, shape (rows,); NaN where missing or unknown."""
        codes = self._indexes[name].get_indexer(pd.Index(values, dtype=object))
        return np.where(codes < 0, np.nan, codes)

    @cached_property
    def _categorical(self) -> dict[str, int]:
        return (
            {name: len(known) for name, known in self.categories.items()}
            if self.categorical is None
            else self.categorical
        )

    @cached_property
    def presence_columns(self) -> dict[str, str]:
        """The model's columns for presence of a value, and the raw column of each."""
        return {f"known({name})": name for name in self.presence}

    @cached_property
    def _indexes(self) -> dict[str, "pd.Index[str]"]:
        return {name: pd.Index(known, dtype=object) for name, known in self.categories.items()}


def joint_codes(codes: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """One code for one column or a pair, shape (rows,)."""
    return codes[0] if len(codes) == 1 else codes[0] * KNOWN_VALUES + codes[1]


def _known(occurrences: Mapping[str, int]) -> tuple[str, ...]:
    """Known values, most frequent first, ties by name."""
    often = [(-count, value) for value, count in occurrences.items() if count >= KNOWN_OCCURRENCES]
    return tuple(value for _, value in sorted(often)[:KNOWN_VALUES])


def _finite(values: pd.DataFrame) -> Matrix:
    with np.errstate(over="ignore"):  # too large for float32 is not finite either
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan).astype(np.float32)
    return np.where(np.isfinite(numbers), numbers, np.float32(np.nan))
