"""The days of a training frame: the rows of one part on one UTC day with their features, joined once and used again."""

import io
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from itertools import count, pairwise
from math import ceil
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from liftloop.contract.contract import Contract
from liftloop.features.definitions import TIME_TO_LIVE, feature_columns
from liftloop.features.lookup import historical_features
from liftloop.storage.duckdb import quoted
from liftloop.storage.hashing import fingerprint_of
from liftloop.storage.keys import frame_day_key, frame_day_prefix
from liftloop.storage.records import Record
from liftloop.storage.store import Listed, ObjectRef, Store, references
from liftloop.training.frame import FramePart

Span = tuple[datetime, datetime]  # half-open: [start, end)

RULE_VERSION = "frame day 1"
ROWS_PER_JOIN = 150_000  # in memory at a time
ROWS_PER_PARTITION = 10_000  # so that a day feeds several workers
_DAY = timedelta(days=1)
_IN_SPAN = "event_timestamp >= $start AND event_timestamp < $end"
_SHAPING = {"source", "keys", "context", "reward", "landing_delay"}


class FrameDay(Record):
    """`day.json`: a day's rows and what they rest on. Written last, so a day without it is unfinished."""

    inputs: tuple[ObjectRef, ...]
    part: FramePart


@dataclass(frozen=True, eq=False)
class Day:
    """A day to build: a span within one UTC day, the day's files of the lake, and tables that its features rest on."""

    store: Store
    contract: Contract
    shape: str  # of the rows, by the contract: see `shape_of`
    span: Span
    files: tuple[Listed, ...]
    tables: tuple[Listed, ...]

    @cached_property
    def fingerprint(self) -> str:
        """Changes with everything that the rows depend on."""
        return fingerprint_of(self.shape, self.span, *sorted((item.key, item.etag) for item in self._sources))

    @property
    def _sources(self) -> tuple[Listed, ...]:
        return *self.files, *self.tables

    def on_record(self) -> FrameDay | None:
        """The finished day; None: it is to be built."""
        return FrameDay.read(self.store, frame_day_key(self.contract.source, self.fingerprint))

    def measure(self, connection: duckdb.DuckDBPyConnection) -> FramePart:
        """Its numbers of rows and rewards, without partitions."""
        reward = f"coalesce(sum({quoted(self.contract.reward)}), 0)::BIGINT"
        query = f"SELECT count(*), {reward} FROM ({self._rows}) WHERE {_IN_SPAN}"
        row = connection.execute(query, self._times(self.span)).fetchone()
        assert row is not None  # an aggregate always answers
        return FramePart(start=self.span[0], end=self.span[1], rows=row[0], rewards=row[1])

    def build(self, connection: duckdb.DuckDBPyConnection, measured: FramePart) -> FrameDay:
        """Write its partitions, and then its record; partitions of an interrupted run are used again."""
        numbers = count()
        refs: list[ObjectRef] = []
        prefix = frame_day_prefix(self.contract.source, self.fingerprint)
        for span in self._cut(connection, measured):
            share = measured.rows / max(ceil(measured.rows / ROWS_PER_JOIN), 1)
            keys = [f"{prefix}{next(numbers):03}.parquet" for _ in range(partitions_of(share))]
            found = [ref for key in keys if (ref := self.store.find(key))]
            refs += found if len(found) == len(keys) else put_partitions(self.store, keys, self._join(connection, span))
        inputs = references(self.store, (item.key for item in self._sources))
        day = FrameDay(inputs=inputs, part=measured.model_copy(update={"partitions": tuple(refs)}))
        day.write(self.store, frame_day_key(self.contract.source, self.fingerprint))
        return day

    def _cut(self, connection: duckdb.DuckDBPyConnection, measured: FramePart) -> list[Span]:
        """Spans of about equal numbers of rows, cut at whole minutes; none of a day without rows."""
        if measured.rows <= ROWS_PER_JOIN:
            return [self.span] if measured.rows else []
        pieces = {"pieces": ceil(measured.rows / ROWS_PER_JOIN), "rows": measured.rows}
        query = _CUT.format(rows=self._rows)
        starts = connection.execute(query, self._times(self.span) | pieces).fetchall()
        return list(pairwise([self.span[0], *(start for (start,) in starts[1:]), self.span[1]]))

    def _join(self, connection: duckdb.DuckDBPyConnection, span: Span) -> pa.Table:
        """The rows of a span with their features."""
        query = f"SELECT * FROM ({self._rows}) WHERE {_IN_SPAN} ORDER BY event_timestamp, impression_id"
        rows = connection.execute(query, self._times(span)).to_arrow_table()
        entities = rows.select([*self.contract.keys, "event_timestamp"]).to_pandas()
        features = historical_features(self.store, self.contract, entities)[feature_columns(self.contract)]
        for name in features:
            rows = rows.append_column(name, pa.array(features[name], from_pandas=True))
        return rows

    @property
    def _rows(self) -> str:
        """SQL: the day's rows with the contract's columns; NULL where a file was written without one."""
        empty = ", ".join(f"NULL::{kind} AS {quoted(name)}" for name, kind in self.contract.column_types.items())
        names = ", ".join(map(quoted, self.contract.column_types))
        uris = [self.store.uri(item.key) for item in self.files]
        read = f"SELECT * FROM read_parquet({uris}, union_by_name = true)"
        return f"SELECT {names} FROM (SELECT {empty} WHERE false UNION ALL BY NAME {read})"

    @staticmethod
    def _times(span: Span) -> dict[str, Any]:
        return {"start": span[0], "end": span[1]}


_CUT = f"""
WITH minutes AS (
    SELECT date_trunc('minute', event_timestamp) AS minute, count(*) AS rows FROM ({{rows}}) WHERE {_IN_SPAN} GROUP BY 1
), pieces AS (
    SELECT minute, (sum(rows) OVER (ORDER BY minute) - rows) * $pieces // $rows AS piece FROM minutes
)
SELECT min(minute) FROM pieces GROUP BY piece ORDER BY 1
"""


def shape_of(contract: Contract) -> str:
    """A fingerprint of what the contract says about the rows of any day."""
    columns = contract.column_types, feature_columns(contract)
    return fingerprint_of(RULE_VERSION, contract.model_dump_json(include=_SHAPING), *columns)


def days_of(span: Span) -> list[Span]:
    """A span cut at each midnight, UTC."""
    start, end = span
    midnights = [midnight(start.date() + number * _DAY) for number in range(1, (end.date() - start.date()).days + 1)]
    bounds = [start, *(each for each in midnights if start < each < end), end]
    return list(pairwise(bounds)) if start < end else []


def midnight(day: date) -> datetime:
    """When a day begins, UTC."""
    return datetime.combine(day, time(), UTC)


def table_days(contract: Contract, span: Span) -> tuple[date, date]:
    """The first and last day of the feature tables that the features of a span may come from."""
    delay = contract.landing_delay or timedelta(0)
    return (span[0] - delay - TIME_TO_LIVE).date(), (span[1] - delay - timedelta.resolution).date()


def partitions_of(rows: float) -> int:
    """How many partitions so many rows are written in."""
    return max(ceil(rows / ROWS_PER_PARTITION), 1)


def put_partitions(store: Store, keys: list[str], rows: pa.Table) -> list[ObjectRef]:
    """Write the rows in partitions of equal size."""
    bounds = pairwise(rows.num_rows * number // len(keys) for number in range(len(keys) + 1))
    partitions = (rows.slice(start, end - start).combine_chunks() for start, end in bounds)
    return [store.put(key, _parquet(each)) for key, each in zip(keys, partitions, strict=True)]


def _parquet(rows: pa.Table) -> bytes:
    body = io.BytesIO()
    pq.write_table(rows, body, compression="zstd")
    return body.getvalue()
