"""An embedded online store for Feast with one wide row per key in SQLite: fast to fill, and without stale values.

Feast's own SQLite store keeps one row per value, lets older values overwrite newer ones, and serves expired values.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from feast import Entity, FeatureView, Field, RepoConfig, ValueType
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel
from feast.utils import make_tzaware
from pydantic import StrictStr

from liftloop.feast_plugins.arrow_encoding import ViewRows, microseconds, native_values
from liftloop.feast_plugins.online_reader import StoredRow, is_alive, quoted, stored_rows
from liftloop.feast_plugins.wire_format import MISSING_TIME

ROWS_PER_WRITE = 50_000  # per transaction, so that other writers get a turn
BUSY_SECONDS = 60
OWN_COLUMNS = ("_key", "_event_us", "_created_us")  # times in microseconds since 1970
UNKNOWN = -(2**63)  # created time of sources without one; sorts before all others

# Feast's type -> the column's type, and the field of `feast.types.Value`; other types store the serialized Value.
_COLUMNS = {
    ValueType.DOUBLE: ("REAL", "double_val"),
    ValueType.FLOAT: ("REAL", "float_val"),
    ValueType.INT64: ("INTEGER", "int64_val"),
    ValueType.INT32: ("INTEGER", "int32_val"),
    ValueType.BOOL: ("INTEGER", "bool_val"),
    ValueType.UNIX_TIMESTAMP: ("INTEGER", "unix_timestamp_val"),
    ValueType.STRING: ("TEXT", "string_val"),
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
_Found = tuple[datetime | None, dict[str, Value] | None]


class WideSqliteOnlineStoreConfig(FeastConfigBaseModel):
    type: StrictStr = "liftloop.feast_plugins.online_store.WideSqliteOnlineStore"
    path: StrictStr = "online_features.db"  # relative to the feature repository


class WideSqliteOnlineStore(OnlineStore):
    """One writer at a time, any number of readers, in any number of processes (SQLite's write-ahead log).

    A write is ignored if the key's row has a newer event time, or an equal one and a newer created time. It replaces
    the whole row: omitted features become missing. Rows older than the view's TTL are not read.
    """

    def __init__(self) -> None:
        self._of_thread = threading.local()
        self._write_lock = threading.Lock()  # threads that wait for SQLite's own lock would poll

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],  # noqa: ARG002
        entities_to_keep: Sequence[Entity],  # noqa: ARG002
        partial: bool,  # noqa: ARG002
    ) -> None:
        """Create, alter and drop tables. A feature with a new name or type is missing until the next write."""
        with self._writing(config) as connection:
            for view in tables_to_delete:
                connection.execute(f"DROP TABLE IF EXISTS {_table(config, view)}")
            for view in tables_to_keep:
                _shape(connection, _table(config, view), view.features)

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        self.update(config, tables, [], entities, [], partial=True)

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: list[_Row], progress: Callable[[int], Any] | None
    ) -> None:
        fields, version = table.features, config.entity_key_serialization_version
        rows = (
            (
                serialize_entity_key(key, version),
                _microseconds(event),
                UNKNOWN if created is None else _microseconds(created),
                *(_native(field, values.get(field.name)) for field in fields),
            )
            for key, values, event, created in data
        )
        self._write(config, table, rows)
        if progress:
            progress(len(data))

    def write_rows(self, config: RepoConfig, rows: ViewRows) -> None:
        """Write columns in bulk, ordered by key, because appending to a B-tree is faster."""
        keys = [(field.name, "ascending") for field in rows.view.entity_columns]
        for part in replace(rows, table=rows.table.sort_by(keys)).parts(ROWS_PER_WRITE):
            self._write(config, rows.view, _tuples(part))

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[_Found]:
        """Each key's event time and values; None if the key is unknown or its row has expired."""
        fields = [field for field in table.features if not requested_features or field.name in requested_features]
        keys = [serialize_entity_key(key, config.entity_key_serialization_version) for key in entity_keys]
        found = stored_rows(self._connection(config), _table(config, table), [field.name for field in fields], keys)
        now_us = _microseconds(datetime.now(UTC))
        alive = {key: row for key, row in found.items() if is_alive(row[0], now_us, table.ttl)}
        return [_protos(fields, alive.get(key)) for key in keys]

    def _write(self, config: RepoConfig, view: FeatureView, rows: Iterable[tuple[Any, ...]]) -> None:
        names = [*OWN_COLUMNS, *(quoted(field.name) for field in view.features)]
        changes = ", ".join(f"{name} = excluded.{name}" for name in names[1:])
        with self._writing(config) as connection:
            connection.executemany(
                f"INSERT INTO {_table(config, view)} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
                f" ON CONFLICT DO UPDATE SET {changes}"
                " WHERE (excluded._event_us, excluded._created_us) >= (_event_us, _created_us)",
                rows,
            )

    @contextmanager
    def _writing(self, config: RepoConfig) -> Iterator[sqlite3.Connection]:
        connection = self._connection(config)
        with self._write_lock, connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection

    def _connection(self, config: RepoConfig) -> sqlite3.Connection:
        if not hasattr(self._of_thread, "connection"):
            path = Path(config.repo_path or ".") / config.online_store.path
            path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            self._of_thread.connection = connection
        return self._of_thread.connection  # type: ignore[no-any-return]


def _table(config: RepoConfig, view: FeatureView) -> str:
    return quoted(compute_table_id(config.project, view, config.registry.enable_online_feature_view_versioning))


def _shape(connection: sqlite3.Connection, table: str, fields: list[Field]) -> None:
    """Give a table exactly the columns of these features; a column whose type changed starts empty."""
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {table} (_key BLOB PRIMARY KEY, _event_us INTEGER NOT NULL,"
        " _created_us INTEGER NOT NULL) WITHOUT ROWID"
    )
    columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
    present = {(name, kind) for _, name, kind, *_ in columns if name not in OWN_COLUMNS}
    wanted = {(field.name, _column_type(field)): None for field in fields}
    for name, _ in present - wanted.keys():
        connection.execute(f"ALTER TABLE {table} DROP COLUMN {quoted(name)}")
    for name, kind in wanted:
        if (name, kind) not in present:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {quoted(name)} {kind}")


def _tuples(rows: ViewRows) -> Iterator[tuple[Any, ...]]:
    """Rows as SQLite takes them."""
    keys = rows.keys()
    created = rows.created_time and microseconds(rows.column(rows.created_time), UNKNOWN)
    columns = [
        keys,
        pa.array(microseconds(rows.column(rows.event_time))),
        pa.array(np.full(len(keys), UNKNOWN) if created is None else created),
        *(native_values(rows.column(field.name), field) for field in rows.view.features),
    ]
    return zip(*(column.to_pandas(integer_object_nulls=True).tolist() for column in columns), strict=True)


def _column_type(field: Field) -> str:
    """SQLite's type, and Feast's as a second word, which SQLite ignores: it reveals a change of the feature's type."""
    value_type = field.dtype.to_value_type()
    return f"{_COLUMNS.get(value_type, ('BLOB', ''))[0]} {value_type.name}"


def _native(field: Field, value: Value | None) -> Any:
    kind = value and value.WhichOneof("val")
    if value is None or kind is None:
        return None
    if field.dtype.to_value_type() not in _COLUMNS:
        return value.SerializeToString()
    native = getattr(value, kind)
    return None if kind == "unix_timestamp_val" and native == MISSING_TIME else native


def _protos(fields: list[Field], row: StoredRow | None) -> _Found:
    if row is None:
        return None, None
    event_us, values = row
    protos = {field.name: _proto(field, value) for field, value in zip(fields, values, strict=True)}
    return _EPOCH + timedelta(microseconds=event_us), protos


def _proto(field: Field, value: Any) -> Value:
    if value is None:
        return Value()
    if isinstance(value, bytes):
        return Value.FromString(value)  # type: ignore[no-any-return]
    return Value(**{_COLUMNS[field.dtype.to_value_type()][1]: value})


def _microseconds(moment: datetime) -> int:
    """Since 1970; without a zone it is UTC."""
    return (make_tzaware(moment) - _EPOCH) // timedelta(microseconds=1)
