"""Derived tables in daily partitions: one object per day, and what it is made from."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from typing import Any, Protocol, TypeVar

import duckdb
import pyarrow as pa

from liftloop.storage.store import Listed, Store, fingerprint_of

_DAY_IN_KEY = re.compile(r"/date=(\d{4}-\d{2}-\d{2})/")


class Source(Protocol):
    """One version of an object."""

    @property
    def key(self) -> str: ...

    @property
    def etag(self) -> str: ...


_Source = TypeVar("_Source", bound=Source)


@dataclass(frozen=True)
class Partition:
    """One UTC day of a derived table: where it lies, and the query over its sources that makes it.

    `query` reads the view `sources` and may use `$start` and `$end` of the day beside its own parameters.
    """

    table: str  # the prefix of all its days
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


def by_day(items: Iterable[_Source]) -> dict[date, list[_Source]]:
    """Objects by the day of the partition that they lie in; what lies in none is left out."""
    found: dict[date, list[_Source]] = defaultdict(list)
    for item in items:
        if match := _DAY_IN_KEY.search(item.key):
            found[date.fromisoformat(match[1])].append(item)
    return found


def objects_by_day(store: Store, prefix: str) -> dict[date, list[Listed]]:
    """What lies in the daily partitions under a prefix."""
    return by_day(store.list(prefix))


def looking_back(objects: Mapping[date, Sequence[_Source]], days: int) -> dict[date, tuple[_Source, ...]]:
    """For each day, up to the newest, with objects on it or on the `days` days before it: those objects."""
    steps = [timedelta(days=number) for number in range(days + 1)]
    newest = max(objects, default=date.min)
    reached = sorted({day + step for day in objects for step in steps if day + step <= newest})
    return {day: tuple(item for step in steps for item in objects.get(day - step, ())) for day in reached}
