"""The training frame: matured impressions with their point-in-time features, split by time, kept as Parquet."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import count, pairwise
from math import ceil
from typing import Any, Literal

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from liftloop.contract import Contract, Split
from liftloop.duck import connect, quoted
from liftloop.features import feature_columns, historical_features, tables_prefix
from liftloop.lake import impressions_prefix
from liftloop.partitions import references
from liftloop.runs import Step
from liftloop.store import Listed, ObjectRef, Store, fingerprint_of

Part = Literal["training", "validation", "holdout"]
Span = tuple[datetime, datetime]  # the start belongs to it, the end does not

RULE_VERSION = "frame 1"
ROWS_PER_PARTITION = 100_000  # what one join holds in memory
TRAINING_PARTITIONS = 4  # or a multiple, so that 2 or 4 workers get equal shares
_MICROSECOND = timedelta(microseconds=1)  # the resolution of event times
_IN_SPAN = "event_timestamp >= $start AND event_timestamp < $end"


class FrameError(ValueError):
    """There is nothing to learn from or to judge by; the message says which part lacks what, and the remedy."""


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
            connection.read_parquet(uris).create_view("rows")  # type: ignore[arg-type]
            return {name: dict(connection.execute(_COUNT.format(name=quoted(name))).fetchall()) for name in columns}


_COUNT = "SELECT {name}, count(*) FROM rows WHERE {name} IS NOT NULL GROUP BY 1"


def read_partition(store: Store, ref: ObjectRef) -> pd.DataFrame:
    """One partition, its bytes checked against the frame's index."""
    rows: pd.DataFrame = pq.read_table(io.BytesIO(store.get_verified(ref))).to_pandas()
    return rows


def open_frame(store: Store, source: str, fingerprint: str) -> TrainingFrame | None:
    """A finished frame, or None."""
    try:
        body = store.get(f"{_prefix(source, fingerprint)}frame.json")
    except KeyError:
        return None
    return TrainingFrame(store, FrameIndex.model_validate_json(body))


def build_frame(store: Store, contract: Contract) -> tuple[TrainingFrame, Step]:
    """The frame of all matured impressions; taken as it is where lake, features and contract are unchanged.

    Raises:
        FrameError: a part of the split has no rows, or only one kind of reward.
    """
    lake = list(store.list(impressions_prefix(contract.source)))
    tables = list(store.list(tables_prefix(contract.source)))
    fingerprint = _fingerprint(contract, lake + tables)
    known = open_frame(store, contract.source, fingerprint)
    if known is not None:
        return known, _step(known.index, is_reused=True)
    with connect(store.settings) as connection:
        parts = _Work(store, contract, connection, _prefix(contract.source, fingerprint)).build(lake)
    inputs = references(store, (item.key for item in lake + tables))
    index = FrameIndex(source=contract.source, fingerprint=fingerprint, inputs=inputs, parts=parts)
    store.put(f"{_prefix(contract.source, fingerprint)}frame.json", index.model_dump_json(indent=1).encode())
    return TrainingFrame(store, index), _step(index, is_reused=False)


def split_by_time(matured: Span, split: Split) -> dict[Part, Span]:
    """The newest matured rows are held out, those before them validate, all earlier ones train."""
    start, end = matured
    holdout = end - split.holdout
    validation = holdout - split.validation
    return {"training": (start, validation), "validation": (validation, holdout), "holdout": (holdout, end)}


@dataclass(frozen=True)
class _Work:
    """One frame under construction: from where, by which contract, under which prefix."""

    store: Store
    contract: Contract
    connection: duckdb.DuckDBPyConnection
    prefix: str

    def build(self, lake: list[Listed]) -> dict[Part, FramePart]:
        """Check every part before the first is written."""
        spans = split_by_time(self._open_lake(lake), self.contract.split)
        parts = {name: self._measure(name, span) for name, span in spans.items()}
        return {name: part.model_copy(update={"partitions": self._write(name, part)}) for name, part in parts.items()}

    def _open_lake(self, lake: list[Listed]) -> Span:
        """Make the view `lake`; returns the span of its matured rows."""
        if not lake:
            raise FrameError(f"the lake of {self.contract.source} is empty: land its logs and run ingest first")
        uris = [self.store.uri(item.key) for item in lake]
        self.connection.read_parquet(uris, union_by_name=True).create_view("lake")  # type: ignore[arg-type]
        first, as_of = self._row("SELECT min(event_timestamp), max(event_timestamp) FROM lake")
        return first, as_of - self.contract.maturity + _MICROSECOND

    def _measure(self, name: Part, span: Span) -> FramePart:
        query = f"SELECT count(*), coalesce(sum({quoted(self.contract.reward)}), 0)::BIGINT FROM lake WHERE {_IN_SPAN}"
        rows, rewards = self._row(query, span)
        if rewards in (0, rows):
            raise FrameError(_lacking(self.contract, name, span, rows, rewards))
        return FramePart(start=span[0], end=span[1], rows=rows, rewards=rewards)

    def _write(self, name: Part, part: FramePart) -> tuple[ObjectRef, ...]:
        keys = (f"{self.prefix}{name}-{number:03}.parquet" for number in count())
        spans = self._cut(part, multiple_of=TRAINING_PARTITIONS if name == "training" else 1)
        # What an interrupted run left is as good as new: the prefix names everything it depends on.
        return tuple(self.store.find(key) or self._join(key, span) for key, span in zip(keys, spans, strict=False))

    def _cut(self, part: FramePart, multiple_of: int) -> list[Span]:
        """Spans with about equal numbers of rows, cut at whole minutes."""
        pieces = multiple_of * ceil(part.rows / ROWS_PER_PARTITION / multiple_of)
        starts = self.connection.execute(_CUT, _times((part.start, part.end)) | {"pieces": pieces, "rows": part.rows})
        later = [start for (start,) in starts.fetchall()][1:]
        return list(pairwise([part.start, *later, part.end]))

    def _join(self, key: str, span: Span) -> ObjectRef:
        columns = ", ".join(map(quoted, self.contract.column_types))
        query = f"SELECT {columns} FROM lake WHERE {_IN_SPAN} ORDER BY event_timestamp, impression_id"
        rows = self.connection.execute(query, _times(span)).to_arrow_table()
        entities = rows.select([*self.contract.keys, "event_timestamp"]).to_pandas()
        features = historical_features(self.store, self.contract, entities)[feature_columns(self.contract)]
        for name in features:
            rows = rows.append_column(name, pa.array(features[name], from_pandas=True))
        body = io.BytesIO()
        pq.write_table(rows.combine_chunks(), body, compression="zstd")
        return self.store.put(key, body.getvalue())

    def _row(self, query: str, span: Span | None = None) -> tuple[Any, ...]:
        row = self.connection.execute(query, _times(span) if span else None).fetchone()
        assert row is not None  # an aggregate always answers
        return row


_CUT = f"""
WITH minutes AS (
    SELECT date_trunc('minute', event_timestamp) AS minute, count(*) AS rows FROM lake WHERE {_IN_SPAN} GROUP BY 1
), pieces AS (
    SELECT minute, (sum(rows) OVER (ORDER BY minute) - rows) * $pieces // $rows AS piece FROM minutes
)
SELECT min(minute) FROM pieces GROUP BY piece ORDER BY 1
"""


def _times(span: Span) -> dict[str, Any]:
    return {"start": span[0], "end": span[1]}


def _prefix(source: str, fingerprint: str) -> str:
    return f"features/{source}/frames/{fingerprint}/"


def _fingerprint(contract: Contract, inputs: list[Listed]) -> str:
    parts = contract.model_dump_json(include={"source", "keys", "context", "reward", "maturity", "split"})
    read = sorted((item.key, item.etag) for item in inputs)
    return fingerprint_of(RULE_VERSION, parts, feature_columns(contract), *read)


def _lacking(contract: Contract, name: Part, span: Span, rows: int, rewards: int) -> str:
    split = contract.split
    return (
        f"the {name} part of {contract.source} ({span[0]:%Y-%m-%d %H:%M} to {span[1]:%Y-%m-%d %H:%M}) has {rows} rows,"
        f" {rewards} of them with a {contract.reward}; rows with and without are needed. Land more days, or shorten"
        f" maturity ({contract.maturity}), split.validation ({split.validation}) or split.holdout ({split.holdout})"
        f" in contracts/{contract.source}.yaml"
    )


def _step(index: FrameIndex, *, is_reused: bool) -> Step:
    counts = {name: {"rows": part.rows, "rewards": part.rewards} for name, part in index.parts.items()}
    metrics = {"fingerprint": index.fingerprint, **counts}
    return Step(name="frame", inputs=index.inputs, outputs=index.partitions, metrics=metrics, is_reused=is_reused)
