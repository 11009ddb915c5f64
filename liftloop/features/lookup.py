"""Features of rows: point-in-time values from the offline store, current values from the online store."""

import json
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from redis import Redis

from liftloop.contract.contract import Contract
from liftloop.feast_plugins.online_reader import (
    FeatureRequest,
    OnlineReader,
    RedisReader,
    SqliteReader,
    ViewSchema,
)
from liftloop.features.definitions import (
    FEAST_PROJECT,
    TIME_TO_LIVE,
    feature_columns,
    feature_service_name,
    recency_columns,
    table_columns,
    view_name,
)
from liftloop.features.landing_delay import measure_landing_delay
from liftloop.settings import Settings
from liftloop.storage.keys import materialized_key
from liftloop.storage.store import Store


def historical_features(store: Store, contract: Contract, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, in their order and with their index, and `feature_columns` as a decision at their event time had them.

    What had not landed by then is not in them: they are the features as of the landing delay before the event.

    Args:
        rows: the contract's key columns and `event_timestamp`, in any time zone; without one it is UTC.

    Returns:
        The rows' own columns and the features as floats; NaN where the key is NULL, unknown or expired.
    """
    delay = timedelta(hours=measure_landing_delay(store, contract).hours)
    return offline_features(store, contract, rows, delay)


def offline_features(
    store: Store, contract: Contract, rows: pd.DataFrame, landing_delay: timedelta = timedelta(0)
) -> pd.DataFrame:
    """The same columns from the offline store, as of the delay before each row's `event_timestamp`.

    Seconds since an event are counted to the row's own time.
    """
    if rows.empty:  # Feast needs a first and a last time
        return rows.reindex(columns=[*rows.columns, *feature_columns(contract)])
    entities = _entity_rows(contract, rows)
    from liftloop.features.feast_repo import open_feature_store  # noqa: PLC0415  (Feast takes seconds to import)

    feast = open_feature_store(store.settings)
    service = feast.get_feature_service(feature_service_name(contract))
    as_of = entities.assign(event_timestamp=entities["event_timestamp"] - landing_delay)
    stored = feast.get_historical_features(entity_df=as_of, features=service).to_df()
    return _appended(contract, rows, stored, entities)


def online_features(store: Store, contract: Contract, rows: pd.DataFrame) -> pd.DataFrame:
    """The same columns from the online store, as of each row's `event_timestamp`."""
    entities = _entity_rows(contract, rows)
    requests = [_request(contract, key, entities) for key in contract.keys]
    with open_reader(store.settings) as reader:
        answers = reader.read(*requests)
    stored = [
        pd.DataFrame(values, columns=list(each.view.features), index=entities.index[entities[key].notna()])
        for key, each, values in zip(contract.keys, requests, answers, strict=True)
    ]
    return _appended(contract, rows, pd.concat(stored, axis="columns").reindex(entities.index), entities)


def served_view(contract: Contract, key: str) -> ViewSchema:
    """The schema of a key's view, for readers of the online store."""
    return ViewSchema(view_name(contract, key), (key,), tuple(table_columns(contract, key)), TIME_TO_LIVE)


def materialized_at(store: Store, source: str) -> datetime:
    """The time as of which the online store was filled.

    Raises:
        KeyError: it was never filled.
    """
    return datetime.fromisoformat(json.loads(store.get(materialized_key(source)))["as_of"])


def _request(contract: Contract, key: str, entities: pd.DataFrame) -> FeatureRequest:
    """The request for a key's features, for the rows that have the key."""
    known = entities[entities[key].notna()]
    times = known["event_timestamp"].dt.as_unit("us").astype("int64")
    return FeatureRequest(served_view(contract, key), known[key].tolist(), times.tolist())


def _entity_rows(contract: Contract, rows: pd.DataFrame) -> pd.DataFrame:
    """The keys as text and the times in UTC, numbered from 0."""
    columns: dict[str, Any] = {key: rows[key].astype("string") for key in contract.keys}
    columns["event_timestamp"] = pd.to_datetime(rows["event_timestamp"], utc=True)
    return pd.DataFrame(columns).reset_index(drop=True)


def _appended(contract: Contract, rows: pd.DataFrame, stored: pd.DataFrame, entities: pd.DataFrame) -> pd.DataFrame:
    """The rows with their stored features; times become seconds before the row's own time."""
    features = stored[[column for key in contract.keys for column in table_columns(contract, key)]].astype(float)
    features.columns, features.index = pd.Index(feature_columns(contract)), rows.index
    recency = list(recency_columns(contract).values())
    now = _seconds(entities["event_timestamp"]).to_numpy()
    features[recency] = now[:, None] - features[recency].to_numpy()
    return pd.concat([rows, features], axis="columns")


def _seconds(times: "pd.Series[pd.Timestamp]") -> "pd.Series[float]":
    return (times - pd.Timestamp(0, tz="UTC")).dt.total_seconds()


def open_reader(settings: Settings) -> OnlineReader:
    """A reader of the online store in the settings."""
    if settings.redis_url:
        return RedisReader(Redis.from_url(settings.redis_url), FEAST_PROJECT)
    return SqliteReader(settings.online_database, FEAST_PROJECT)
