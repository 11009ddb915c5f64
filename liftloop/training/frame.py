"""The training frame: matured impressions with their point-in-time features, split by time, stored as Parquet."""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import chain
from typing import Literal

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from liftloop.features.landing_delay import LandingDelay
from liftloop.storage.duckdb import connect, quoted
from liftloop.storage.frozen import Frozen
from liftloop.storage.keys import frame_index_key
from liftloop.storage.records import Record
from liftloop.storage.store import ObjectRef, Store

Part = Literal["training", "validation", "holdout"]

FOLDS = 4  # more folds leak more: with all other rows of its value known, a row's own reward can be inferred
# Stable, and spread over time, so that every fold resembles the rest.
FOLD = f"(md5_number_lower(impression_id) % {FOLDS})::INTEGER"

_WITH_VALUES = """
SELECT DISTINCT path_in_schema FROM parquet_metadata($uris) WHERE num_values > coalesce(stats_null_count, 0)
"""
_ROWS = "CREATE TABLE rows AS SELECT {names}, {reward} AS reward, {fold} AS fold FROM frame"
_COUNTS = """
SELECT {names}, fold, count(*) AS impressions, sum(reward)::BIGINT AS rewards
FROM rows WHERE {known} GROUP BY {names}, fold QUALIFY sum(count(*)) OVER (PARTITION BY {names}) >= $minimum
"""


class FramePart(Frozen):
    """One part of the split: rows with `start` <= event time < `end`."""

    start: datetime
    end: datetime
    rows: int
    rewards: int
    partitions: tuple[ObjectRef, ...] = ()

    def reward_rate(self, negatives_kept: float) -> float:
        """Rewards per impression of the full log, given the share of unrewarded impressions that was kept."""
        return self.rewards / (self.rewards + (self.rows - self.rewards) / negatives_kept)


class FrameIndex(Record):
    """`frame.json`. Written last, so a frame without it is unfinished."""

    source: str
    fingerprint: str
    inputs: tuple[ObjectRef, ...]
    landing_delay: LandingDelay = LandingDelay()
    parts: dict[Part, FramePart]
    days: tuple[FramePart, ...] = ()  # the same rows: what each part has on each UTC day

    @property
    def partitions(self) -> tuple[ObjectRef, ...]:
        return tuple(ref for part in self.parts.values() for ref in part.partitions)

    @property
    def judged_days(self) -> tuple[FramePart, ...]:
        """What the hold-out has on each UTC day; where days are unknown, all of it."""
        holdout = self.parts["holdout"]
        return tuple(day for day in self.days if day.start >= holdout.start) or (holdout,)

    def until(self, moment: datetime) -> "FrameIndex":
        """The index as if the hold-out began then: the judged days before it are part of the validation part."""
        before = [day for day in self.judged_days if day.end <= moment]
        validation, holdout = self.parts["validation"], self.parts["holdout"]
        later = joined((moment, holdout.end), (day for day in self.judged_days if day.end > moment))
        parts = {"validation": joined((validation.start, moment), [validation, *before]), "holdout": later}
        return self.model_copy(update={"parts": self.parts | parts})

    def together(self, names: Sequence[Part]) -> FramePart:
        """Adjacent parts as one."""
        parts = [self.parts[name] for name in names]
        return joined((parts[0].start, parts[-1].end), parts)


def joined(span: tuple[datetime, datetime], parts: Iterable[FramePart]) -> FramePart:
    """The parts of a span as one."""
    parts = [*parts]
    rows, rewards = sum(part.rows for part in parts), sum(part.rewards for part in parts)
    refs = tuple(ref for part in parts for ref in part.partitions)
    return FramePart(start=span[0], end=span[1], rows=rows, rewards=rewards, partitions=refs)


@dataclass(frozen=True)
class TrainingFrame:
    """The three parts as pandas frames: rows ordered by event time, lake columns followed by feature columns."""

    store: Store
    index: FrameIndex

    def until(self, moment: datetime) -> "TrainingFrame":
        """See `FrameIndex.until`."""
        return TrainingFrame(self.store, self.index.until(moment))

    @cached_property
    def training(self) -> pd.DataFrame:
        return pd.concat(self.read("training"), ignore_index=True)

    @cached_property
    def validation(self) -> pd.DataFrame:
        return pd.concat(self.read("validation"), ignore_index=True)

    @cached_property
    def holdout(self) -> pd.DataFrame:
        return pd.concat(self.read("holdout"), ignore_index=True)

    def read(self, part: Part) -> Iterator[pd.DataFrame]:
        """The partitions of a part, one by one, because a whole part may exceed memory."""
        return (read_partition(self.store, ref) for ref in self.index.parts[part].partitions)

    def uris(self, parts: Iterable[Part]) -> list[str]:
        """Of the partitions of these parts."""
        return [self.store.uri(ref.key) for name in parts for ref in self.index.parts[name].partitions]

    def columns_with_values(self, parts: Iterable[Part], columns: Iterable[str]) -> list[str]:
        """Those of the columns that have a value in these parts, from the metadata of the files alone."""
        with connect(self.store.settings) as connection:
            found = {name for (name,) in connection.execute(_WITH_VALUES, {"uris": self.uris(parts)}).fetchall()}
        return [name for name in columns if name in found]

    def target_counts(
        self, parts: Iterable[Part], reward: str, groups: Iterable[tuple[str, ...]], minimum_occurrences: int
    ) -> list[pd.DataFrame]:
        """For each group of columns: `impressions` and `rewards` of the parts by value and `fold`.

        Missing values and values with fewer occurrences are left out.
        """
        groups = list(groups)
        if not groups:
            return []
        minimum = {"minimum": minimum_occurrences}
        with connect(self.store.settings) as connection:
            connection.read_parquet(self.uris(parts)).create_view("frame")
            connection.execute(_rows_query(reward, groups))  # read once for all groups; DuckDB spills if needed
            return [connection.execute(_counts_query(columns), minimum).df() for columns in groups]


def folds_of(rows: pd.DataFrame) -> NDArray[np.intp]:
    """The fold of each impression, as in `target_counts`, shape (rows,)."""
    with duckdb.connect() as connection:
        connection.register("impressions", rows[["impression_id"]])
        return np.asarray(connection.execute(f"SELECT {FOLD} AS fold FROM impressions").fetchnumpy()["fold"], np.intp)


def read_partition(store: Store, ref: ObjectRef) -> pd.DataFrame:
    """One partition, verified against the hash in the frame's index."""
    rows: pd.DataFrame = pq.read_table(io.BytesIO(store.get_verified(ref))).to_pandas()
    return rows


def open_frame(store: Store, source: str, fingerprint: str) -> TrainingFrame | None:
    """A finished frame, or None."""
    index = FrameIndex.read(store, frame_index_key(source, fingerprint))
    return TrainingFrame(store, index) if index else None


def _rows_query(reward: str, groups: Iterable[tuple[str, ...]]) -> str:
    names = dict.fromkeys(chain.from_iterable(groups))
    return _ROWS.format(names=", ".join(map(quoted, names)), reward=quoted(reward), fold=FOLD)


def _counts_query(columns: tuple[str, ...]) -> str:
    names = [quoted(name) for name in columns]
    known = " AND ".join(f"{name} IS NOT NULL" for name in names)
    return _COUNTS.format(names=", ".join(names), known=known)
