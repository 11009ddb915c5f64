"""Updates derived tables: only the partitions whose sources changed, in this process or on Dask workers."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property, lru_cache
from time import perf_counter
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from liftloop.features.partition_index import Entry, Index
from liftloop.lake.days import Source
from liftloop.settings import Settings
from liftloop.storage.duckdb import connect
from liftloop.storage.hashing import fingerprint_of
from liftloop.storage.runs import Step, record
from liftloop.storage.store import ObjectRef, Store, references

ROWS_PER_GROUP = 250_000
PARTITIONS_PER_TASK = 3  # few, to balance the workers; adjacent days, because they share sources


@dataclass(frozen=True)
class Partition:
    """One UTC day of a derived table: its key, its sources, and the query that computes it from them.

    `query` reads the view `sources` and may use `$start` and `$end` of the day in addition to its own parameters.
    """

    table: str  # the prefix of the table
    file: str
    day: date
    sources: tuple[Source, ...]
    query: str
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.table}date={self.day}/{self.file}"

    @cached_property
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


@dataclass(frozen=True)
class _Result:
    """A partition that is up to date. `rows`: None if an earlier, interrupted run wrote it."""

    entry: Entry
    ref: ObjectRef
    rows: int | None = None


def update_partitions(store: Store, name: str, index_key: str, partitions: Sequence[Partition]) -> Step:
    """Compute the partitions whose sources or query changed, and delete obsolete ones.

    Changes are found by the index, so one more day costs the same however long the history is. An update without
    changes compares all partitions with the store, and rebuilds what was deleted or overwritten by others.

    Raises:
        SwapConflict: another update of these tables wrote the index meanwhile.
    """
    started = perf_counter()
    index = Index.read(store, index_key)
    changed = [each for each in partitions if not index.knows(each.key, each.fingerprint)]
    unwanted = index.entries.keys() - {each.key for each in partitions}
    if not index.entries or not (changed or unwanted):
        changed, unwanted = _look_at_all(store, index, partitions)
    index = index.without(each.key for each in changed)
    if unwanted:
        record(Step(name=f"{name}: removal", removed=tuple(sorted(unwanted))))
        store.delete(sorted(unwanted))
    results = _bring_up_to_date(store, changed)
    step = _step(store, name, started, partitions, results)
    record(step)  # before the index is written: the next run finds and records what a killed run has not
    index.with_changes(unwanted, (result.entry for result in results))
    return step


def _look_at_all(store: Store, index: Index, partitions: Sequence[Partition]) -> tuple[list[Partition], set[str]]:
    """The partitions whose object differs from the index, and the keys in the store that are obsolete."""
    present = {item.key: item.etag for table in {each.table for each in partitions} for item in store.list(table)}
    known = {each.key: index.entries.get(each.key) for each in partitions}
    changed = [each for each in partitions if (entry := known[each.key]) is None or entry.etag != present.get(each.key)]
    return changed, present.keys() - known.keys()


def _step(store: Store, name: str, started: float, partitions: Sequence[Partition], results: Sequence[_Result]) -> Step:
    outputs = {result.ref.key: result.ref for result in results}
    sources = {source.key for each in partitions if each.key in outputs for source in each.sources}
    built = [result.rows for result in results if result.rows is not None]
    metrics = {
        "partitions_built": len(built),
        "partitions_reused": len(partitions) - len(built),
        "rows_written": sum(built),
        "seconds": round(perf_counter() - started, 3),
    }
    inputs = references(store, sources)
    return Step(name=name, inputs=inputs, outputs=tuple(outputs.values()), metrics=metrics, is_reused=not built)


def _bring_up_to_date(store: Store, partitions: Sequence[Partition]) -> list[_Result]:
    """On Dask workers if the settings name a scheduler; otherwise here, where DuckDB uses every core by itself."""
    if not partitions:
        return []
    if not store.settings.has_dask_scheduler:
        return _update(store, partitions)
    from liftloop.compute.compute import open_compute  # noqa: PLC0415  (Dask takes a second to import)

    steps = range(0, len(partitions), PARTITIONS_PER_TASK)
    tasks = [partitions[start : start + PARTITIONS_PER_TASK] for start in steps]
    with open_compute(store.settings) as workers:
        results = [result for task in workers.run(_on_worker, tasks, settings=store.settings) for result in task]
    return sorted(results, key=lambda result: result.entry.key)


def _on_worker(partitions: Sequence[Partition], settings: Settings) -> list[_Result]:
    return _update(_store_of_worker(settings), partitions)


@lru_cache(maxsize=1)
def _store_of_worker(settings: Settings) -> Store:
    """One store for all tasks: creating a client takes as long as a small partition."""
    return Store(settings)


def _update(store: Store, partitions: Sequence[Partition]) -> list[_Result]:
    with connect(store.settings) as connection:
        connection.execute(
            "SET enable_http_metadata_cache = true"
        )  # adjacent days share sources, which do not change meanwhile
        return [_updated(store, partition, connection) for partition in partitions]


def _updated(store: Store, partition: Partition, connection: duckdb.DuckDBPyConnection) -> _Result:
    """A partition already written by a killed update, or by a lost worker, is not computed again."""
    found = store.head(partition.key)
    if found is not None and found.fingerprint == partition.fingerprint:
        return _Result(Entry(partition.key, found.etag, partition.fingerprint), found.ref)
    uris = [store.uri(source.key) for source in partition.sources]
    rows = partition.compute(connection, connection.read_parquet(uris, union_by_name=True))
    body = io.BytesIO()
    # In one chunk, so that the bytes do not depend on the chunks in which DuckDB returns the result.
    pq.write_table(rows.combine_chunks(), body, compression="zstd", row_group_size=ROWS_PER_GROUP)
    ref, etag = store.put_version(partition.key, body.getvalue(), fingerprint=partition.fingerprint)
    return _Result(Entry(partition.key, etag, partition.fingerprint), ref, rows.num_rows)
