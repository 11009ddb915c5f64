"""Feast's DuckDB offline store with ASOF joins: the same values, rows in their order, and fast on hourly tables.

Feast's own store joins every entity row with every feature row before it and then keeps the newest of each.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import ibis
import pandas as pd
from feast.feature_view import FeatureView
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
from feast.infra.offline_stores.ibis import IbisRetrievalJob, pull_latest_from_table_or_query_ibis
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import RepoConfig
from pydantic import Field, StrictStr

from liftloop.duck import connect, literal, quoted
from liftloop.settings import Settings, load_settings


class AsofDuckDBOfflineStoreConfig(DuckDBOfflineStoreConfig):  # type: ignore[misc]
    type: StrictStr = "liftloop.feast_asof.AsofDuckDBOfflineStore"
    settings: Settings = Field(default_factory=load_settings)  # of the object store that holds the feature tables


class AsofDuckDBOfflineStore(DuckDBOfflineStore):  # type: ignore[misc]
    """Reads Parquet sources in the object store; every query has a connection of its own, so threads may share it."""

    supports_filter_by_created_timestamp = False

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
    ) -> RetrievalJob:
        """The newest feature row at or before each entity row, unless older than its view's TTL; rows in their order.

        Of feature rows with equal event time the newest created counts, where the source knows that.
        """
        clock = infer_event_timestamp_from_entity_df(dict(entity_df.dtypes))
        entities = entity_df.assign(**{clock: pd.to_datetime(entity_df[clock], utc=True)})
        span = (entities[clock].min(), entities[clock].max())
        backend = _backend(config)
        backend.con.register("entities", entities.assign(entity_row=range(len(entities))))
        columns, joins = [f"entities.{quoted(name)}" for name in entities.columns], []
        for number, view in enumerate(feature_views):
            join = _AsofJoin(view, f"view_{number}", clock)
            columns += join.columns(feature_refs, full_feature_names)
            joins.append(join.sql(span))
        query = f"SELECT {', '.join(columns)} FROM entities {' '.join(joins)} ORDER BY entity_row"
        keys = [name for name in entities.columns if name != clock]
        return _job(
            backend.sql(query),
            OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            full_feature_names,
            RetrievalMetadata(feature_refs, keys, *span),
        )

    @staticmethod
    def pull_latest_from_table_or_query(config: RepoConfig, **query: Any) -> RetrievalJob:
        """The newest row of each key in a span of time."""
        backend = _backend(config)
        return pull_latest_from_table_or_query_ibis(
            config=config,
            data_source_reader=lambda source, _: backend.read_parquet(source.path),
            data_source_writer=None,
            **query,
        )


class _AsofJoin:
    """One view joined to the entity rows, under an alias of its own: a view may be joined several times."""

    def __init__(self, view: FeatureView, alias: str, clock: str) -> None:
        self._view, self._alias, self._clock = view, alias, f"entities.{quoted(clock)}"
        self._timestamp = quoted(view.batch_source.timestamp_field)
        own_names = {column.name: column.name for column in view.entity_columns}
        self._keys: Mapping[str, str] = view.projection.join_key_map or own_names  # of the view -> of the entity rows

    def columns(self, feature_refs: list[str], full_feature_names: bool) -> list[str]:
        prefix = f"{self._view.projection.name_alias or self._view.name}__" if full_feature_names else ""
        is_alive = f"{self._clock} - {self._alias}.{self._timestamp} <= {_interval(self._view.ttl)}" if self._view.ttl else "true"
        wanted = [ref.split(":")[1] for ref in feature_refs if ref.startswith(f"{self._view.projection.name_to_use()}:")]
        return [
            f"CASE WHEN {is_alive} THEN {self._alias}.{quoted(name)} END AS {quoted(prefix + name)}" for name in wanted
        ]

    def sql(self, span: tuple[pd.Timestamp, pd.Timestamp]) -> str:
        keys = " AND ".join(f"entities.{quoted(row)} = {self._alias}.{quoted(own)}" for own, row in self._keys.items())
        rows = f"({self._rows(span)}) AS {self._alias}"
        return f"ASOF LEFT JOIN {rows} ON {keys} AND {self._clock} >= {self._alias}.{self._timestamp}"

    def _rows(self, span: tuple[pd.Timestamp, pd.Timestamp]) -> str:
        source = self._view.batch_source
        oldest = f"{literal(span[0])}::TIMESTAMPTZ - {_interval(self._view.ttl)}" if self._view.ttl else "'-infinity'"
        rows = (
            f"SELECT * FROM read_parquet({literal(source.path)})"
            f" WHERE {self._timestamp} BETWEEN {oldest} AND {literal(span[1])}::TIMESTAMPTZ"
        )
        if not source.created_timestamp_column:
            return rows
        same = ", ".join([*map(quoted, self._keys), self._timestamp])
        newest_first = f"ORDER BY {quoted(source.created_timestamp_column)} DESC"
        return f"{rows} QUALIFY row_number() OVER (PARTITION BY {same} {newest_first}) = 1"


def _interval(duration: timedelta) -> str:
    return f"to_seconds({duration.total_seconds()})"


def _backend(config: RepoConfig) -> Any:
    return ibis.duckdb.from_connection(connect(config.offline_store.settings))


def _job(table: Any, on_demand: list[Any], full_feature_names: bool, metadata: RetrievalMetadata) -> RetrievalJob:
    return IbisRetrievalJob(
        table,
        on_demand,
        full_feature_names,
        metadata=metadata,
        data_source_writer=None,
        staging_location=None,
        staging_location_endpoint_override=None,
        repo_path=None,
    )
