"""Which of a version's models predicts an impression: one that was fitted on earlier impressions alone."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Self

import numpy as np
import pandas as pd

from liftloop.model.model import Model
from liftloop.registry.load import Fold, load_fold, load_model
from liftloop.registry.versions import ModelVersion
from liftloop.stats.columns import Floats
from liftloop.storage.store import Store

_FOREVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Timeline:
    """A version's models by time: those of the judged days, and from the end of its data on the one that is served."""

    folds: tuple[Fold, ...]

    @classmethod
    def load(cls, store: Store, version: ModelVersion) -> Self:
        """
        Raises:
            RegistryError: a blob is missing or changed.
        """
        judged = (Fold(each.since, each.until, load_fold(store, version, each)) for each in version.folds)
        return cls((*judged, Fold(version.trained_until, _FOREVER, load_model(store, version))))

    @property
    def since(self) -> datetime:
        """Of the first impression that one of the models was not fitted on."""
        return self.folds[0].since

    @property
    def served(self) -> Model:
        return self.folds[-1].model

    def map(self, change: Callable[[Model], Model]) -> Self:
        """With another model in place of each."""
        return replace(self, folds=tuple(replace(fold, model=change(fold.model)) for fold in self.folds))

    def by_time(self, rows: pd.DataFrame) -> Iterator[tuple[Model, pd.DataFrame]]:
        """The rows that each model predicts, by their `event_timestamp`; without rows that all were fitted on."""
        times = rows["event_timestamp"]
        for fold in self.folds:
            if not (part := rows[(times >= fold.since) & (times < fold.until)]).empty:
                yield fold.model, part

    def predict(self, rows: pd.DataFrame) -> Floats:
        """Calibrated P(reward), shape (rows,); NaN where all models were fitted on the row.

        Raises:
            ValueError: a column is missing.
        """
        found = pd.Series(np.nan, index=pd.RangeIndex(len(rows)))
        for model, part in self.by_time(rows.reset_index(drop=True)):
            found[part.index] = model.predict(part)
        return np.asarray(found, dtype=np.float64)
