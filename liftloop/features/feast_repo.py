"""Feast's configuration and objects, from settings and contracts: stores, entities, views, feature services."""

import json
from collections.abc import Iterable
from typing import Any

from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64, String
from redis.connection import parse_url

from liftloop.contract.contract import Contract
from liftloop.feast_plugins.offline_store import AsofDuckDBOfflineStoreConfig
from liftloop.features.definitions import FEAST_PROJECT, TIME_TO_LIVE, feature_service_name, table_columns, view_name
from liftloop.features.windows import features_pattern
from liftloop.settings import Settings
from liftloop.storage.store import Store

# Named and not imported: Feast loads them by path, as in any other project that uses the plugins.
_BATCH_ENGINE = "liftloop.feast_plugins.batch_engine.ArrowComputeEngine"
_EMBEDDED_ONLINE_STORE = "liftloop.feast_plugins.online_store.WideSqliteOnlineStore"


def open_feature_store(settings: Settings) -> FeatureStore:
    """Feast on the registry and the stores in the settings."""
    return FeatureStore(config=repo_config(settings))


def repo_config(settings: Settings) -> RepoConfig:
    """Feast's configuration. The embedded registry and online store lie under `<home>/feast/`."""
    folder = settings.home.absolute() / "feast"
    folder.mkdir(parents=True, exist_ok=True)
    return RepoConfig(
        project=FEAST_PROJECT,
        provider="local",
        registry={
            "registry_type": "sql",
            "path": settings.feast_registry_url or f"sqlite:///{folder / 'registry.db'}",
            "serve_features_while_materializing": True,
        },
        offline_store=AsofDuckDBOfflineStoreConfig(**offline_store_options(settings)),
        batch_engine={"type": _BATCH_ENGINE},
        online_store=(
            _redis(settings.redis_url)
            if settings.redis_url
            else {"type": _EMBEDDED_ONLINE_STORE, "path": str(settings.online_database)}
        ),
        materialization={"pull_latest_features": True},
        entity_key_serialization_version=3,
    )


def offline_store_options(settings: Settings) -> dict[str, Any]:
    """The settings that the offline store needs: the object store, and the Dask scheduler if there is one."""
    names = ("s3_endpoint_url", "s3_region", "s3_access_key_id", "s3_secret_access_key")
    scheduler = settings.dask_scheduler if settings.has_dask_scheduler else None
    return {name: getattr(settings, name) for name in names} | {"dask_scheduler": scheduler}


def _redis(url: str) -> dict[str, Any]:
    """Feast's notation of an address such as `rediss://:password@host:6379/0`: host and port, then options as JSON."""
    options: dict[str, Any] = {"port": 6379, **parse_url(url), "ssl": url.startswith("rediss://")}  # type: ignore[no-untyped-call]
    options.pop("connection_class", None)
    address = f"{options.pop('host')}:{options.pop('port')}"
    listed = ",".join([address, *(f"{name}={json.dumps(value)}" for name, value in options.items())])
    # Without it Feast's own writes would drop a correction with the event time of the row it corrects.
    return {"type": "redis", "connection_string": listed, "skip_dedup": True}


def apply_features(store: Store, contracts: Iterable[Contract]) -> FeatureStore:
    """Apply the contracts' entities, views and services to Feast, and open it. Repeating it changes nothing."""
    feast = open_feature_store(store.settings)
    feast.apply(feature_objects(contracts, store.bucket))
    return feast


def feature_objects(contracts: Iterable[Contract], bucket: str) -> list[Any]:
    """Everything that `feast apply` registers for these contracts: entities, views and services."""
    entities: dict[str, Entity] = {}
    objects: list[Any] = []
    for contract in contracts:
        for key in contract.keys:
            entities[key] = Entity(name=key, join_keys=[key], value_type=ValueType.STRING)
        views: list[Any] = [_view(contract, entities[key], bucket) for key in contract.keys]
        objects += [*views, FeatureService(name=feature_service_name(contract), features=views)]
    return [*entities.values(), *objects]


def _view(contract: Contract, entity: Entity, bucket: str) -> FeatureView:
    key = entity.name
    name = view_name(contract, key)
    path = f"s3://{bucket}/{features_pattern(contract.source, key)}"
    features = [Field(name=column, dtype=Float64) for column in table_columns(contract, key)]
    return FeatureView(
        name=name,
        entities=[entity],
        schema=[Field(name=key, dtype=String), *features],
        source=FileSource(name=name, path=path, timestamp_field="event_timestamp"),
        ttl=TIME_TO_LIVE,
    )
