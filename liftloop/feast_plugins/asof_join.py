"""Point-in-time joins of Parquet tables to entity rows, by DuckDB's ASOF join, in parts that read only their own days.

Independent of Feast, which takes seconds to import and is not needed in Dask workers.
"""

# mypy: allow-untyped-calls

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from liftloop.feast_plugins.duckdb_s3 import S3Access, connect, literal, quoted

# A part reads its own days and one TTL before: with parts of three TTLs a third is read twice. Longer ones need memory.
TTLS_PER_PART = 3
SHORTEST_PART = timedelta(days=7)

_EPOCH = pd.Timestamp(0, tz=UTC)


class FeatureTableError(LookupError):
    """A table has no files; the message names the path."""


@dataclass(frozen=True)
class ParquetTable:
    """Parquet files with an event time. Of rows with equal keys and event time the most recently created counts.

    Among these, it is the last row of the last file. Times without a zone are UTC.
    """

    path: str  # may be a pattern, such as `…/date=*/*.parquet`
    event_time: str
    created: str | None = None
    date_partition: str | None = "date"  # a folder `date=2026-03-01` holds exactly that UTC day of the event time

    def files(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        """All files, in order.

        Raises:
            FeatureTableError: there are none.
        """
        found = connection.execute("SELECT file FROM glob(?) ORDER BY file", [self.path]).fetchall()
        if not found:
            raise FeatureTableError(
                f"no file matches {self.path!r}: write the features, or correct the path of their source"
            )
        return [file for (file,) in found]

    def rows(self, files: Sequence[str], since: datetime | None, until: datetime | None) -> str:
        """SQL to follow FROM: the rows of a time span, ends included."""
        read = ", ".join(map(literal, self._files_of_span(files, since, until)))
        bounds = {">=": since, "<=": until}
        conditions = [f"{_instant(self.event_time)} {sign} {_time(bound)}" for sign, bound in bounds.items() if bound]
        return f"read_parquet([{read}]) WHERE {' AND '.join(conditions or ['TRUE'])}"

    @property
    def rank(self) -> str:
        """SQL for a value that is greatest in the row that counts."""
        created = [f"coalesce({_instant(self.created)}, '-infinity')"] if self.created else []
        return f"ROW({_instant(self.event_time)}, ROW({', '.join([*created, 'file_index', 'file_row_number'])}))"

    def _files_of_span(self, files: Sequence[str], since: datetime | None, until: datetime | None) -> list[str]:
        """The files that may hold rows of the span, and the first file, which defines the types of the columns."""
        day_of = re.compile(rf"/{re.escape(self.date_partition or '')}=(\d{{4}}-\d\d-\d\d)/").search
        first, last = (str(bound.date()) for bound in (since or datetime.min, until or datetime.max))
        wanted = (file for file in files if not (day := day_of(file)) or first <= day[1] <= last)
        return list(dict.fromkeys([files[0], *wanted]))


@dataclass(frozen=True)
class AsofJoin:
    """How a table is joined to entity rows."""

    table: ParquetTable
    keys: Mapping[str, str]  # the table's column -> the entity rows' column; NULL matches nothing, and 7 not "007"
    features: Mapping[str, str]  # the table's column -> its name in the result
    time_to_live: timedelta | None = None  # a value of exactly this age still counts; None: it never expires
    is_known_when_created: bool = False  # otherwise from its event time on, whenever it was created

    def query(self, files: Sequence[str], oldest: datetime, newest: datetime) -> str:
        """The query over the table `entities` (row, moment, key_0 …), with moments in the span: row, value_0 …"""
        age = self.time_to_live
        is_alive = f"moment <= event_time + to_seconds({age.total_seconds()})" if age else "moment <= 'infinity'"
        values = [
            f"CASE WHEN {is_alive} THEN value_{number} END AS value_{number}" for number in range(len(self.features))
        ]
        equal = [f"entities.key_{number} = features.key_{number}" for number in range(len(self.keys))]
        # NULL sorts after every rank with an equal time.
        before = "ROW(moment, NULL) >= known"
        return (
            f"SELECT {', '.join(['row', *values])} FROM entities ASOF LEFT JOIN"
            f" ({self._known(self.table.rows(files, oldest - age if age else None, newest))}) AS features"
            f" ON {' AND '.join([*equal, before])}"
        )

    def _known(self, rows: str) -> str:
        """The table's rows, each with the time from which it is known and its rank, without rows that never count."""
        keys = [f"{_text(quoted(name))} AS key_{number}" for number, name in enumerate(self.keys)]
        # DuckDB 1.5.5 lets NULL match NULL in some plans.
        rows = " AND ".join([rows, *(f"{quoted(name)} IS NOT NULL" for name in self.keys)])
        values = [f"{quoted(name)} AS value_{number}" for number, name in enumerate(self.features)]
        event_time, created, rank = _instant(self.table.event_time), self.table.created, self.table.rank
        columns = ", ".join([*keys, *values, f"{event_time} AS event_time"])
        if not (self.is_known_when_created and created):
            return f"SELECT {columns}, {rank} AS known FROM {rows}"
        known = f"ROW(greatest({event_time}, {_instant(created)}), {rank})"
        past = f"PARTITION BY {', '.join(f'key_{number}' for number in range(len(keys)))} ORDER BY known"
        return (
            f"SELECT {columns}, {known} AS known FROM {rows} AND {quoted(created)} IS NOT NULL"
            f" QUALIFY {rank} = max({rank}) OVER ({past})"  # a row that ranks below an earlier known one never counts
        )


def join_features(
    access: S3Access,
    entities: pd.DataFrame,
    moment: str,
    joins: Sequence[AsofJoin],
    dask_scheduler: str | None = None,
) -> pa.Table:
    """The features of each entity row as known at its time, in the order of the rows.

    Args:
        access: to the tables.
        entities: the columns that the joins name, and `moment`, in UTC; a row without a moment gets no features.
        dask_scheduler: the address of a scheduler whose workers compute the parts, with the same values.

    Returns:
        One column per feature, in the order of the joins.

    Raises:
        FeatureTableError: a table has no files.
    """
    entities = entities.reset_index(drop=True)
    pieces: dict[int, list[pa.Table]] = defaultdict(list)
    with connect(access) as connection:
        parts = (
            part for number, join in enumerate(joins) for part in _parts(number, join, entities, moment, connection)
        )
        for number, piece in _computed(access, dask_scheduler, connection, parts):
            pieces[number].append(piece)
    columns: dict[str, pa.ChunkedArray] = {}
    for number, join in enumerate(joins):
        rows = pa.concat_tables(pieces.pop(number)).sort_by("row").drop_columns("row")
        columns |= zip(join.features.values(), rows.columns, strict=True)
    return pa.table(columns)


@dataclass(frozen=True)
class _Part:
    """Some days of the entity rows, joined to one table; the unit of work."""

    join: int  # which of the joins
    query: str
    entities: pa.Table

    def compute(self, connection: duckdb.DuckDBPyConnection) -> tuple[int, pa.Table]:
        # DuckDB does not know the size of an Arrow table, and would use a nested loop as for a small one.
        connection.execute("SET asof_loop_join_threshold = 0")
        connection.register("entities", self.entities)
        return self.join, connection.execute(self.query).to_arrow_table()


def _parts(
    number: int, join: AsofJoin, entities: pd.DataFrame, moment: str, connection: duckdb.DuckDBPyConnection
) -> Iterator[_Part]:
    files = join.table.files(connection)
    moments = entities[moment].dt.floor("us")  # DuckDB's resolution
    columns = {"row": np.arange(len(entities)), "moment": moments}
    columns |= {f"key_{place}": _as_text(entities[name]) for place, name in enumerate(join.keys.values())}
    rows = pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)
    for places in _places_by_days(moments, join.time_to_live):
        own = moments.iloc[places].dropna()
        oldest, newest = (own.min(), own.max()) if len(own) else (_EPOCH, _EPOCH)
        yield _Part(number, join.query(files, oldest, newest), rows.take(places))


def _as_text(keys: "pd.Series[Any]") -> "pd.Series[str]":
    """Keys as text; floats that are all whole, which pandas makes of integers with gaps, as integers."""
    if pd.api.types.is_float_dtype(keys) and (keys.dropna() % 1 == 0).all():
        keys = keys.astype("Int64")
    return keys.astype("string")


def _places_by_days(moments: "pd.Series[pd.Timestamp]", time_to_live: timedelta | None) -> list[Any]:
    """The positions of each part's rows. Without a TTL all rows are one part: each part would read the whole table."""
    if time_to_live is None or moments.isna().all():
        return [np.arange(len(moments))]
    days = moments.dt.floor("D")
    parts = ((days - days.min()) // max(SHORTEST_PART, TTLS_PER_PART * time_to_live)).fillna(0)
    return list(moments.groupby(parts.to_numpy()).indices.values())


def _computed(
    access: S3Access, dask_scheduler: str | None, connection: duckdb.DuckDBPyConnection, parts: Iterable[_Part]
) -> Iterator[tuple[int, pa.Table]]:
    """The results of the parts: computed here one after the other, or by the workers in any order."""
    if dask_scheduler is None:
        yield from (part.compute(connection) for part in parts)
        return
    from distributed import Client, as_completed  # noqa: PLC0415  (Dask takes a second to import)

    with Client(dask_scheduler) as client:
        for future in as_completed(client.map(_compute_alone, list(parts), access=access, pure=False)):
            yield future.result()


def _compute_alone(part: _Part, access: S3Access) -> tuple[int, pa.Table]:
    with connect(access) as connection:
        return part.compute(connection)


def _instant(column: str) -> str:
    return f"{quoted(column)}::TIMESTAMPTZ"


def _text(column: str) -> str:
    """A key as text; whole floats as integers."""
    is_float = f"typeof({column}) IN ('DOUBLE', 'FLOAT')"
    return f"CASE WHEN {is_float} THEN regexp_replace({column}::VARCHAR, '[.]0$', '') ELSE {column}::VARCHAR END"


def _time(moment: datetime) -> str:
    return f"{literal(moment.isoformat(timespec='microseconds'))}::TIMESTAMPTZ"
