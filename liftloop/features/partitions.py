"""Derived tables in daily partitions: one object per day, computed again only when what it is made from has changed."""

import io
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from time import perf_counter
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from liftloop.duck import connect
from liftloop.runs import Step
from liftloop.store import Listed, ObjectRef, Store, concurrently, fingerprint_of, references

ROWS_PER_GROUP = 250_000

_DAY_IN_KEY = re.compile(r"/date=(\d{4}-\d{2}-\d{2})/")


@dataclass(frozen=True)
class Partition:
    """One UTC day of a derived table: where it lies, and the query over its sources that makes it.

    `query` reads the view `sources` and may use `$start` and `$end` of the day beside its own parameters.
    """

    table: str  # the prefix of all its days
    file: str
    day: date
    sources: tuple[Listed, ...]
    query: str
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.table}date={self.day}/{self.file}"

    @property
    def fingerprint(self) -> str:
        """Changes with the content of the sources and with the query itself."""
        read = sorted((source.key, source.etag) for source in self.sources)
        return fingerprint_of(self.query, self.parameters, self.day, *read)

    def compute(self, connection: duckdb.DuckDBPyConnection, sources: duckdb.DuckDBPyRelation) -> pa.Table:
        """The partition's rows."""
        sources.create_view("sources")
        start = datetime.combine(self.day, time(), UTC)
        span = {"start": start, "end": start + timedelta(days=1)}
        return connection.execute(self.query, span | self.parameters).to_arrow_table()


def objects_by_day(store: Store, prefix: str) -> dict[date, list[Listed]]:
    """What lies in the daily partitions under a prefix."""
    found: dict[date, list[Listed]] = defaultdict(list)
    for item in store.list(prefix):
        if match := _DAY_IN_KEY.search(item.key):
            found[date.fromisoformat(match[1])].append(item)
    return found


def looking_back(objects: dict[date, list[Listed]], days: int) -> dict[date, tuple[Listed, ...]]:
    """For each day, up to the newest, with objects on it or on the `days` days before it: those objects."""
    steps = [timedelta(days=number) for number in range(days + 1)]
    newest = max(objects, default=date.min)
    reached = sorted({day + step for day in objects for step in steps if day + step <= newest})
    return {day: tuple(item for step in steps for item in objects.get(day - step, ())) for day in reached}


def update_partitions(store: Store, name: str, partitions: Sequence[Partition]) -> Step:
    """Compute the partitions whose sources or query changed; drop those of their tables that are no longer wanted."""
    started = perf_counter()
    _drop_unwanted(store, partitions)
    present = concurrently(store.fingerprint, [partition.key for partition in partitions])
    changed = [
        partition for partition, found in zip(partitions, present, strict=True) if found != partition.fingerprint
    ]
    with connect(store.settings) as connection:
        connection.execute("SET enable_http_metadata_cache = true")  # neighbours share sources; these stay as listed
        written = [_update(store, partition, connection) for partition in changed]
    metrics = {
        "partitions_built": len(changed),
        "partitions_reused": len(partitions) - len(changed),
        "rows_written": sum(rows for _, rows in written),
        "seconds": round(perf_counter() - started, 3),
    }
    inputs = references(store, {source.key for partition in changed for source in partition.sources})
    outputs = tuple(ref for ref, _ in written)
    return Step(name=name, inputs=inputs, outputs=outputs, metrics=metrics, is_reused=not changed)


def _drop_unwanted(store: Store, partitions: Sequence[Partition]) -> None:
    wanted = {partition.key for partition in partitions}
    present = {item.key for table in {partition.table for partition in partitions} for item in store.list(table)}
    store.delete(sorted(present - wanted))


def _update(store: Store, partition: Partition, connection: duckdb.DuckDBPyConnection) -> tuple[ObjectRef, int]:
    uris = [store.uri(source.key) for source in partition.sources]
    rows = partition.compute(connection, connection.read_parquet(uris, union_by_name=True))
    body = io.BytesIO()
    # In one chunk: the pieces in which a result arrives must not show in the bytes.
    pq.write_table(rows.combine_chunks(), body, compression="zstd", row_group_size=ROWS_PER_GROUP)
    return store.put(partition.key, body.getvalue(), fingerprint=partition.fingerprint), rows.num_rows
