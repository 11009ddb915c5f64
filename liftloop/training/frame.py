"""The training frame: matured impressions with their point-in-time features, split by time, kept as Parquet."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal

import pandas as pd
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from liftloop.duck import connect, quoted
from liftloop.store import ObjectRef, Store

Part = Literal["training", "validation", "holdout"]

_COUNT = "SELECT {name}, count(*) FROM rows WHERE {name} IS NOT NULL GROUP BY 1"


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FramePart(_Frozen):
    """One part of the split: rows with `start` <= event time < `end`."""

    start: datetime
    end: datetime
    rows: int
    rewards: int
    partitions: tuple[ObjectRef, ...] = ()


class FrameIndex(_Frozen):
    """`frame.json`, written last: a frame without it is unfinished."""

    source: str
    fingerprint: str
    inputs: tuple[ObjectRef, ...]
    parts: dict[Part, FramePart]

    @property
    def partitions(self) -> tuple[ObjectRef, ...]:
        return tuple(ref for part in self.parts.values() for ref in part.partitions)


@dataclass(frozen=True)
class TrainingFrame:
    """The three parts as pandas frames: rows by event time, columns of the lake and then of the features."""

    store: Store
    index: FrameIndex

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
        """The partitions of a part one by one, for where the whole of it may be too much."""
        return (read_partition(self.store, ref) for ref in self.index.parts[part].partitions)

    def value_counts(self, part: Part, columns: Iterable[str]) -> dict[str, dict[str, int]]:
        """How often each value of these columns occurs in a part, by column."""
        uris = [self.store.uri(ref.key) for ref in self.index.parts[part].partitions]
        with connect(self.store.settings) as connection:
            connection.read_parquet(uris).create_view("rows")
            return {name: dict(connection.execute(_COUNT.format(name=quoted(name))).fetchall()) for name in columns}


def read_partition(store: Store, ref: ObjectRef) -> pd.DataFrame:
    """One partition, its bytes checked against the frame's index."""
    rows: pd.DataFrame = pq.read_table(io.BytesIO(store.get_verified(ref))).to_pandas()
    return rows


def open_frame(store: Store, source: str, fingerprint: str) -> TrainingFrame | None:
    """A finished frame, or None."""
    try:
        body = store.get(f"{frame_prefix(source, fingerprint)}frame.json")
    except KeyError:
        return None
    return TrainingFrame(store, FrameIndex.model_validate_json(body))


def frame_prefix(source: str, fingerprint: str) -> str:
    return f"features/{source}/frames/{fingerprint}/"
