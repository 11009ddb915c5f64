"""Feast's DuckDB offline store with ASOF joins: the same values, rows in their order, and fast on hourly tables.

Feast's own store joins every entity row with every feature row before it and keeps the newest of each.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import ibis
import pandas as pd
from feast.feature_view import FeatureView
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
from feast.infra.offline_stores.ibis import IbisRetrievalJob, pull_latest_from_table_or_query_ibis
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.on_demand_feature_view import OnDemandFeatureView
from pydantic import Field, StrictStr

from liftloop.duck import connect, literal, quoted
from liftloop.settings import Settings, load_settings


class AsofDuckDBOfflineStoreConfig(DuckDBOfflineStoreConfig):  # type: ignore[misc]
    type: StrictStr = "liftloop.feast_asof.AsofDuckDBOfflineStore"
    settings: Settings = Field(default_factory=load_settings)  # where the feature tables are read from


class AsofDuckDBOfflineStore(DuckDBOfflineStore):  # type: ignore[misc]
    """Reads Parquet sources from the object store, through a connection of its own for each query."""

    supports_filter_by_created_timestamp = False

    @staticmethod
    def get_historical_features(
        config: Any,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
    ) -> RetrievalJob:
        """One ASOF join per view: the newest feature row at or before the entity row, unless its TTL has passed."""
        clock = infer_event_timestamp_from_entity_df(dict(entity_df.dtypes))
        entities = entity_df.assign(**{clock: pd.to_datetime(entity_df[clock], utc=True)})
        newest, oldest = entities[clock].max(), entities[clock].min()
        joins = [
            _AsofJoin(view, f"view_{number}", feature_refs, clock, full_feature_names)
            for number, view in enumerate(feature_views)
        ]
        backend = _backend(config)
        backend.con.register("entities", entities.assign(entity_row=range(len(entities))))
        metadata = RetrievalMetadata(
            features=feature_refs,
            keys=[name for name in entities.columns if name != clock],
            min_event_timestamp=oldest,
            max_event_timestamp=newest,
        )
        return IbisRetrievalJob(
            backend.sql(_query(list(entities.columns), joins)),
            OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            full_feature_names,
            metadata=metadata,
            data_source_writer=None,
            staging_location=None,
            staging_location_endpoint_override=None,
            repo_path=None,
        )

    @staticmethod
    def pull_latest_from_table_or_query(config: Any, **query: Any) -> RetrievalJob:
        """The newest row of each key in a span of time."""
        backend = _backend(config)
        return pull_latest_from_table_or_query_ibis(
            config=config,
            data_source_reader=lambda source, _: backend.read_parquet(source.path),
            data_source_writer=None,
            **query,
        )
