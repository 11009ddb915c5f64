"""Small Feast repositories for tests of the online plugins: one Parquet file, one view, any store and engine."""

from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import FeastType, Int64, String

ENGINE = {"type": "liftloop.feast_plugins.batch_engine.ArrowComputeEngine"}
LOCAL = {"type": "local"}
LONG_AGO, FAR_AHEAD = datetime(1960, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_NUMBERS = count()
KEY_TYPES: dict[Any, ValueType] = {String: ValueType.STRING, Int64: ValueType.INT64}


def embedded(home: Path) -> dict[str, Any]:
    return {"type": "liftloop.feast_plugins.online_store.WideSqliteOnlineStore", "path": str(home / "online.db")}


def redis(url: str) -> dict[str, Any]:
    return {"type": "redis", "connection_string": url.split("/")[2], "skip_dedup": True}


def repository(
    home: Path, online_store: dict[str, Any], engine: dict[str, Any] = ENGINE, project: str | None = None
) -> FeatureStore:
    """Feast with these plugins; its registry lies in `home`.

    Without a name the project gets a new one: Feast caches views by project and by the `id` of a registry in memory,
    which may be the `id` of another test's.
    """
    home.mkdir(parents=True, exist_ok=True)
    config = RepoConfig(
        project=project or f"p{next(_NUMBERS)}",
        provider="local",
        registry={"registry_type": "sql", "path": f"sqlite:///{home / 'registry.db'}"},
        offline_store={
            "type": "liftloop.feast_plugins.offline_store.AsofDuckDBOfflineStore",
        },
        batch_engine=engine,
        online_store=online_store,
        materialization={"pull_latest_features": True, "online_write_batch_size": 1_000},
        entity_key_serialization_version=3,
    )
    return FeatureStore(config=config)


def make_view(
    path: Path,
    features: dict[str, FeastType],
    keys: dict[str, FeastType] | None = None,
    *,
    name: str = "ads",
    created: str = "",
    ttl: timedelta = timedelta(),
) -> FeatureView:
    """A view of a Parquet file with `event_timestamp` and these columns."""
    keys = keys or {"ad_id": String}
    entities = [Entity(name=key, join_keys=[key], value_type=KEY_TYPES[kind]) for key, kind in keys.items()]
    return FeatureView(
        name=name,
        entities=entities,
        schema=[Field(name=column, dtype=kind) for column, kind in (keys | features).items()],
        source=FileSource(
            name=name, path=str(path), timestamp_field="event_timestamp", created_timestamp_column=created
        ),
        ttl=ttl,
    )


def apply(feast: FeatureStore, *views: FeatureView) -> None:
    entities = {
        column.name: Entity(name=column.name, join_keys=[column.name], value_type=KEY_TYPES[column.dtype])
        for view in views
        for column in view.entity_columns
    }
    feast.apply([*entities.values(), *views])


def materialize(feast: FeatureStore) -> None:
    with redirect_stdout(StringIO()):
        feast.materialize(LONG_AGO, FAR_AHEAD)


def write_rows(path: Path, columns: dict[str, pa.Array]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def times(*moments: datetime | None) -> pa.Array:
    return pa.array(moments, pa.timestamp("us", tz="UTC"))
