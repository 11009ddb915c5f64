"""Raw columns to the numbers that XGBoost reads. Fitted once, kept as JSON with the model.

Dask and pandas number categories anew in every frame (dmlc/xgboost #9678), so the codes are ours.

Two stages: every raw column becomes a number by itself (`to_codes`), then the model's columns are made of those
(`to_features`). So an impression and the ads that compete for it can be encoded apart and put together in between.
"""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, FiniteFloat

from liftloop.storage.frozen import Frozen

MINIMUM_OCCURRENCES = 20  # a rarer category teaches its own few rows by heart
KNOWN_OCCURRENCES = 2  # what occurs only once stands in for what was never seen
KNOWN_VALUES = 20_000  # of one column, the most frequent: tables stay small, for they travel with the model

Matrix = NDArray[np.float32]


class Lookup(Frozen):
    """A column of the model that is looked up: a value for each known code of one text column, or of two together."""

    columns: tuple[str, ...]
    codes: tuple[int, ...]  # ascending; of two columns: first * KNOWN_VALUES + second
    values: tuple[FiniteFloat, ...]

    def find(self, codes: NDArray[np.float64]) -> Matrix:
        """The values of codes, shape (rows,); NaN for what is not known, or where a code is missing."""
        known, values = self._arrays
        place = np.searchsorted(known, codes).clip(max=len(known) - 1)
        return np.where(known[place] == codes, values[place], np.float32(np.nan))

    @cached_property
    def _arrays(self) -> tuple[NDArray[np.float64], Matrix]:
        return np.array(self.codes, dtype=np.float64), np.array(self.values, dtype=np.float32)


class Encoder(Frozen):
    """What is known of the text columns, which columns are numbers, and what a model reads of both.

    A category's code is its position. `categorical` says how many of a text column's first categories XGBoost sees as
    such; a column that it does not name enters only by its lookups. Without it all of every column are seen. Of the
    columns in `presence` a model learns only whether there is a value.
    """

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    categories: dict[str, tuple[str, ...]]
    numbers: tuple[str, ...]
    categorical: dict[str, int] | None = Field(default=None, alias="native")  # as stored: hashes name versions
    presence: tuple[str, ...] = ()
    lookups: dict[str, Lookup] = Field(default_factory=dict)

    @classmethod
    def fit(cls, counts: Mapping[str, Mapping[str, int]], numbers: Iterable[str], presence: Iterable[str] = ()) -> Self:
        """Learn the categories from how often each value occurs, by column, in the training part alone."""
        known = {name: _known(values) for name, values in sorted(counts.items())}
        categorical = {name: sum(counts[name][value] >= MINIMUM_OCCURRENCES for value in known[name]) for name in known}
        return cls(categories=known, numbers=tuple(numbers), categorical=categorical, presence=tuple(presence))

    @property
    def raw_columns(self) -> list[str]:
        """The columns read, in the order of what `to_codes` returns."""
        return [*self.categories, *self.numbers, *self.presence]

    @property
    def columns(self) -> list[str]:
        """The model's columns, in the order of what `encode` returns."""
        return [*self._categorical, *self.numbers, *self.presence_columns, *self.lookups]

    @property
    def sources(self) -> dict[str, tuple[str, ...]]:
        """The raw columns that each of the model's columns is made of."""
        plain = {name: (name,) for name in (*self._categorical, *self.numbers)}
        plain |= {known: (name,) for known, name in self.presence_columns.items()}
        return plain | {name: lookup.columns for name, lookup in self.lookups.items()}

    @property
    def feature_types(self) -> list[str]:
        """XGBoost's word for each of the model's columns: `c`ategory or `q`uantity."""
        return ["c"] * len(self._categorical) + ["q"] * (len(self.numbers) + len(self.presence) + len(self.lookups))

    def select(self, columns: Iterable[str]) -> Self:
        """The encoder of these of the model's columns alone, which reads no more than they need."""
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
        """Every raw column as numbers, shape (rows, raw columns): text as codes; NaN where missing or not known.

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
        """The model's columns, shape (rows, columns), of what `to_codes` returned."""
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
        """The codes of one text column, shape (rows,); NaN where missing or not known."""
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
        """The model's columns that say whether a value is there, and the raw column of each."""
        return {f"known({name})": name for name in self.presence}

    @cached_property
    def _indexes(self) -> dict[str, "pd.Index[str]"]:
        return {name: pd.Index(known, dtype=object) for name, known in self.categories.items()}


def joint_codes(codes: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """One number for the codes of one column or of two, shape (rows,)."""
    return codes[0] if len(codes) == 1 else codes[0] * KNOWN_VALUES + codes[1]


def _known(occurrences: Mapping[str, int]) -> tuple[str, ...]:
    """The most frequent first; of equally many by name."""
    often = [(-count, value) for value, count in occurrences.items() if count >= KNOWN_OCCURRENCES]
    return tuple(value for _, value in sorted(often)[:KNOWN_VALUES])


def _finite(values: pd.DataFrame) -> Matrix:
    with np.errstate(over="ignore"):  # too large for float32 is not finite either
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan).astype(np.float32)
    return np.where(np.isfinite(numbers), numbers, np.float32(np.nan))
