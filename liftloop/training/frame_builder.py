"""Builds the training frame: reads the lake, splits it by time, and joins features partition by partition."""

import io
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count, pairwise
from math import ceil
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from liftloop.contract.contract import Contract
from liftloop.contract.sections import Split
from liftloop.errors import UserError
from liftloop.features.definitions import feature_columns
from liftloop.features.landing_delay import measure_landing_delay
from liftloop.features.lookup import historical_features
from liftloop.lake.lake import Lake
from liftloop.storage.duckdb import connect, quoted
from liftloop.storage.hashing import fingerprint_of
from liftloop.storage.keys import features_prefix, frame_index_key, frame_prefix
from liftloop.storage.runs import Step, record
from liftloop.storage.store import Listed, ObjectRef, Store, references
from liftloop.training.frame import FrameIndex, FramePart, Part, TrainingFrame, open_frame

Span = tuple[datetime, datetime]  # half-open: [start, end)

RULE_VERSION = "frame 2"
FEWEST_TRAINING_ROWS = 100  # fewer teach a model nothing that holds the next day
ROWS_PER_JOIN = 150_000  # in memory at a time
PARTITIONS_PER_JOIN = {"training": 4, "validation": 4, "holdout": 1}  # 4, so that 2 or 4 workers get equal shards
_MICROSECOND = timedelta(microseconds=1)  # the resolution of event times
_IN_SPAN = "event_timestamp >= $start AND event_timestamp < $end"


class FrameError(UserError):
    """There is too little data to train on or to evaluate by; the message names the part and the remedy."""


def build_frame(store: Store, contract: Contract) -> TrainingFrame:
    """The frame of all matured impressions; reused where lake, features, landing delay and contract are unchanged.

    Raises:
        FrameError: see `measure_parts`.
    """
    lake = Lake(store, contract).files
    tables = [item for key in contract.keys for item in store.list(features_prefix(contract.source, key))]
    delay = measure_landing_delay(store, contract)
    contract = delay.pinned(contract)
    fingerprint = _fingerprint(contract, lake + tables)
    known = open_frame(store, contract.source, fingerprint)
    if known is not None:
        record(_step(known.index, is_reused=True))
        return known
    with connect(store.settings) as connection:
        parts = _Work(store, contract, connection, frame_prefix(contract.source, fingerprint)).build(lake)
    inputs = references(store, (item.key for item in lake + tables))
    index = FrameIndex(source=contract.source, fingerprint=fingerprint, inputs=inputs, landing_delay=delay, parts=parts)
    index.write(store, frame_index_key(contract.source, fingerprint))
    record(_step(index, is_reused=False))
    return TrainingFrame(store, index)


def measure_parts(store: Store, contract: Contract) -> dict[Part, FramePart]:
    """The parts that a frame of the lake would have, without their partitions.

    Raises:
        FrameError: the training part has too few rows, or a part of the split has only one kind of reward.
    """
    with connect(store.settings) as connection:
        return _Work(store, contract, connection).measure(Lake(store, contract).files)


def split_by_time(matured: Span, split: Split) -> dict[Part, Span]:
    """The newest matured rows are the hold-out, the rows before them validation, all earlier ones training."""
    start, end = matured
    holdout = end - split.holdout
    validation = holdout - split.validation
    return {"training": (start, validation), "validation": (validation, holdout), "holdout": (holdout, end)}


@dataclass(frozen=True)
class _Work:
    """One frame under construction."""

    store: Store
    contract: Contract
    connection: duckdb.DuckDBPyConnection
    prefix: str = ""

    def measure(self, lake: list[Listed]) -> dict[Part, FramePart]:
        spans = split_by_time(self._open_lake(lake), self.contract.split)
        return {name: self._measure(name, span) for name, span in spans.items()}

    def build(self, lake: list[Listed]) -> dict[Part, FramePart]:
        """Measure every part before the first is written."""
        parts = self.measure(lake)
        return {name: part.model_copy(update={"partitions": self._write(name, part)}) for name, part in parts.items()}

    def _open_lake(self, lake: list[Listed]) -> Span:
        """Create the view `lake`; returns the span of its matured rows."""
        if not lake:
            raise FrameError(f"the lake of {self.contract.source} is empty: land its logs and run ingest first")
        uris = [self.store.uri(item.key) for item in lake]
        self.connection.read_parquet(uris, union_by_name=True).create_view("lake")
        first, as_of, rows = self._row("SELECT min(event_timestamp), max(event_timestamp), count(*) FROM lake")
        if first == as_of:
            raise FrameError(
                f"all {rows} impressions of {self.contract.source} have the event time {first:%F %T}, so they cannot be"
                f" split by time: map event_timestamp in contracts/{self.contract.source}.yaml to when each was served"
            )
        return first, as_of - self.contract.maturity + _MICROSECOND

    def _measure(self, name: Part, span: Span) -> FramePart:
        query = f"SELECT count(*), coalesce(sum({quoted(self.contract.reward)}), 0)::BIGINT FROM lake WHERE {_IN_SPAN}"
        rows, rewards = self._row(query, span)
        part = FramePart(start=span[0], end=span[1], rows=rows, rewards=rewards)
        require_enough(self.contract, name, part)
        return part

    def _write(self, name: Part, part: FramePart) -> tuple[ObjectRef, ...]:
        numbers = count()
        refs: list[ObjectRef] = []
        for span in self._cut(part):
            keys = [f"{self.prefix}{name}-{next(numbers):03}.parquet" for _ in range(PARTITIONS_PER_JOIN[name])]
            found = [ref for key in keys if (ref := self.store.find(key))]
            # Partitions of an interrupted run can be reused: the prefix names everything they depend on.
            refs += found if len(found) == len(keys) else put_partitions(self.store, keys, self._join(span))
        return tuple(refs)

    def _cut(self, part: FramePart) -> list[Span]:
        """Spans of about equal numbers of rows, cut at whole minutes."""
        pieces = {"pieces": ceil(part.rows / ROWS_PER_JOIN), "rows": part.rows}
        starts = self.connection.execute(_CUT, _times((part.start, part.end)) | pieces).fetchall()
        return list(pairwise([part.start, *(start for (start,) in starts[1:]), part.end]))

    def _join(self, span: Span) -> pa.Table:
        """The rows of a span with their features."""
        columns = ", ".join(map(quoted, self.contract.column_types))
        query = f"SELECT {columns} FROM lake WHERE {_IN_SPAN} ORDER BY event_timestamp, impression_id"
        rows = self.connection.execute(query, _times(span)).to_arrow_table()
        entities = rows.select([*self.contract.keys, "event_timestamp"]).to_pandas()
        features = historical_features(self.store, self.contract, entities)[feature_columns(self.contract)]
        for name in features:
            rows = rows.append_column(name, pa.array(features[name], from_pandas=True))
        return rows

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


def put_partitions(store: Store, keys: list[str], rows: pa.Table) -> list[ObjectRef]:
    """Write the rows in partitions of equal size."""
    bounds = pairwise(rows.num_rows * number // len(keys) for number in range(len(keys) + 1))
    partitions = (rows.slice(start, end - start).combine_chunks() for start, end in bounds)
    return [store.put(key, _parquet(each)) for key, each in zip(keys, partitions, strict=True)]


def _parquet(rows: pa.Table) -> bytes:
    body = io.BytesIO()
    pq.write_table(rows, body, compression="zstd")
    return body.getvalue()


def _times(span: Span) -> dict[str, Any]:
    return {"start": span[0], "end": span[1]}


def _fingerprint(contract: Contract, inputs: list[Listed]) -> str:
    wanted = {"source", "keys", "context", "reward", "landing_delay", "maturity", "split"}
    parts = contract.model_dump_json(include=wanted)
    read = sorted((item.key, item.etag) for item in inputs)
    return fingerprint_of(RULE_VERSION, parts, feature_columns(contract), *read)


def require_enough(contract: Contract, name: Part, part: FramePart, noun: str = "rows") -> None:
    """Require rows of both kinds, and enough to train on.

    Raises:
        FrameError: they lack; it calls the rows by `noun`.
    """
    if part.rewards in (0, part.rows) or (name == "training" and part.rows < FEWEST_TRAINING_ROWS):
        raise FrameError(_lacking(contract, name, part, noun))


def _lacking(contract: Contract, name: Part, part: FramePart, noun: str) -> str:
    start, end = part.start, part.end
    until = f"{end:%Y-%m-%d %H:%M}"
    when = f"{start:%Y-%m-%d %H:%M} to {until}" if start < end else f"before {until}, before the log starts"
    needed = f"{FEWEST_TRAINING_ROWS} {noun}, with and without," if name == "training" else f"{noun} with and without"
    return (
        f"the {name} part of {contract.source} ({when}) has {part.rows} {noun}, {part.rewards} of them with a"
        f" {contract.reward}; {needed} are needed. Land more days, or {_remedy(contract, name)} in"
        f" contracts/{contract.source}.yaml"
    )


def _remedy(contract: Contract, name: Part) -> str:
    validation, holdout = (f"split.{key} ({getattr(contract.split, key)})" for key in ("validation", "holdout"))
    if name == "training":
        return f"shorten maturity ({contract.maturity}), {validation} or {holdout}"
    return f"lengthen {validation if name == 'validation' else holdout}"


def _step(index: FrameIndex, *, is_reused: bool) -> Step:
    metrics: dict[str, Any] = {"fingerprint": index.fingerprint, "landing_delay": str(index.landing_delay)}
    for name, part in index.parts.items():
        metrics[name] = {"rows": part.rows, "rewards": part.rewards}
    return Step(name="frame", inputs=index.inputs, outputs=index.partitions, metrics=metrics, is_reused=is_reused)
