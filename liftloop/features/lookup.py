"""Features of rows: as they stood at each row's time (offline), and as they stand now (online)."""

import json
from datetime import datetime
from typing import Any

import pandas as pd

from liftloop.contract import Contract
from liftloop.features.names import feature_columns, feature_service_name, recency_columns
from liftloop.features.tables import TIME_TO_LIVE, table_columns
from liftloop.store import Store


def historical_features(store: Store, contract: Contract, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, in their order and with their index, and `feature_columns` as known at each row's event time.

    Args:
        rows: the contract's key columns and `event_timestamp`, in any time zone; without one it is UTC.

    Returns:
        The rows' own columns and the features as floats; NaN where the key is NULL, unknown or silent for too long.
    """
    if rows.empty:  # Feast needs a first and a last time
        return rows.reindex(columns=[*rows.columns, *feature_columns(contract)])
    entities = _entity_rows(contract, rows)
    feast = _open_feast(store)
    service = feast.get_feature_service(feature_service_name(contract))
    stored = feast.get_historical_features(entity_df=entities, features=service).to_df()
    return _appended(contract, rows, stored, entities)


def online_features(store: Store, contract: Contract, rows: pd.DataFrame) -> pd.DataFrame:
    """The same columns from the online store, where `event_timestamp` is the row's now.

    Feast does not enforce the TTL online; here an expired value is missing, as it is offline.
    """
    entities = _entity_rows(contract, rows)
    feast = _open_feast(store)
    service = feast.get_feature_service(feature_service_name(contract))
    # Feast takes no NULL; what it finds for the empty key is masked below.
    keys: dict[str, Any] = {key: entities[key].fillna("").tolist() for key in contract.keys}
    stored = feast.get_online_features(features=service, entity_rows=keys).to_df(include_event_timestamps=True)
    for key in contract.keys:
        columns = table_columns(contract, key)
        known_since = stored[f"{columns[0]}__ts"]
        is_alive = _seconds(entities["event_timestamp"]) - known_since <= TIME_TO_LIVE.total_seconds()
        stored[columns] = stored[columns].where(is_alive & entities[key].notna())
    return _appended(contract, rows, stored, entities)


def materialized_key(source: str) -> str:
    """What the online store was filled with last; its fingerprint says from what."""
    return f"features/{source}/materialized.json"


def materialized_at(store: Store, source: str) -> datetime:
    """The time as of which the online store was filled.

    Raises:
        KeyError: it never was.
    """
    return datetime.fromisoformat(json.loads(store.get(materialized_key(source)))["as_of"])


def _open_feast(store: Store) -> Any:
    from liftloop.features.feast_repo import open_feature_store  # noqa: PLC0415  (Feast takes seconds to import)

    return open_feature_store(store.settings)


def _entity_rows(contract: Contract, rows: pd.DataFrame) -> pd.DataFrame:
    """The keys as text and the times in UTC, numbered from 0."""
    columns: dict[str, Any] = {key: rows[key].astype("string") for key in contract.keys}
    columns["event_timestamp"] = pd.to_datetime(rows["event_timestamp"], utc=True)
    return pd.DataFrame(columns).reset_index(drop=True)


def _appended(contract: Contract, rows: pd.DataFrame, stored: pd.DataFrame, entities: pd.DataFrame) -> pd.DataFrame:
    """Stored features beside the rows, times turned into seconds before the row's own time."""
    features = stored[[column for key in contract.keys for column in table_columns(contract, key)]].astype(float)
    features.columns, features.index = pd.Index(feature_columns(contract)), rows.index
    recency = list(recency_columns(contract).values())
    now = _seconds(entities["event_timestamp"]).to_numpy()
    features[recency] = now[:, None] - features[recency].to_numpy()
    return pd.concat([rows, features], axis="columns")


def _seconds(times: "pd.Series[pd.Timestamp]") -> "pd.Series[float]":
    return (times - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
