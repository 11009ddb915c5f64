"""Features of rows: as they stood at each row's time (offline), and as they stand now (online)."""

from typing import Any

import pandas as pd

from liftloop.contract import Contract
from liftloop.features.feast_repo import feature_service_name, open_feature_store
from liftloop.features.tables import EVENTS, TIME_TO_LIVE, entity_name, table_columns
from liftloop.store import Store

__all__ = ["feature_columns", "feature_service_name", "historical_features", "online_features"]


def feature_columns(contract: Contract) -> list[str]:
    """The numeric columns that a model reads, recency (seconds since an event) included."""
    recency = _recency(contract)
    stored = (column for key in contract.keys for column in table_columns(contract, key))
    return [recency.get(column, column) for column in stored]


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
    feast = open_feature_store(store.settings)
    service = feast.get_feature_service(feature_service_name(contract))
    stored = feast.get_historical_features(entity_df=entities, features=service).to_df()
    return _appended(contract, rows, stored, entities)


def online_features(store: Store, contract: Contract, rows: pd.DataFrame) -> pd.DataFrame:
    """The same columns from the online store, where `event_timestamp` is the row's now.

    Feast does not enforce the TTL online; here an expired value is missing, as it is offline.
    """
    entities = _entity_rows(contract, rows)
    feast = open_feature_store(store.settings)
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


def _entity_rows(contract: Contract, rows: pd.DataFrame) -> pd.DataFrame:
    """The keys as text and the times in UTC, numbered from 0."""
    columns: dict[str, Any] = {key: rows[key].astype("string") for key in contract.keys}
    columns["event_timestamp"] = pd.to_datetime(rows["event_timestamp"], utc=True)
    return pd.DataFrame(columns).reset_index(drop=True)


def _appended(contract: Contract, rows: pd.DataFrame, stored: pd.DataFrame, entities: pd.DataFrame) -> pd.DataFrame:
    """Stored features beside the rows, times turned into seconds before the row's own time."""
    features = stored[[column for key in contract.keys for column in table_columns(contract, key)]].astype(float)
    features.columns, features.index = pd.Index(feature_columns(contract)), rows.index
    recency = list(_recency(contract).values())
    now = _seconds(entities["event_timestamp"]).to_numpy()
    features[recency] = now[:, None] - features[recency].to_numpy()
    return pd.concat([rows, features], axis="columns")


def _recency(contract: Contract) -> dict[str, str]:
    """Stored time -> feature: `ad_last_click_seconds` -> `ad_seconds_since_click`."""
    entities = map(entity_name, contract.keys)
    return {
        f"{entity}_last_{event}_seconds": f"{entity}_seconds_since_{event}" for entity in entities for event in EVENTS
    }


def _seconds(times: "pd.Series[pd.Timestamp]") -> "pd.Series[float]":
    return (times - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
