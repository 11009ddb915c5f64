"""Feast's DuckDB offline store with ASOF joins: the same values, rows in their order, and fast on hourly tables.

Feast's own store joins every entity row with every feature row before it and then keeps the newest of each; it also
downloads DuckDB's S3 extension, and cannot take a TTL of mixed units such as 7 days and 1 hour.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa
from feast import FeatureView, FileSource, RepoConfig
from feast.data_source import DataSource
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig
from feast.infra.offline_stores.ibis import IbisRetrievalJob
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from pydantic import Field, StrictStr

from liftloop.duck import connect, literal, quoted
from liftloop.settings import Settings, load_settings


class AsofDuckDBOfflineStoreConfig(DuckDBOfflineStoreConfig):
    type: StrictStr = "liftloop.features.feast_asof.AsofDuckDBOfflineStore"
    settings: Settings = Field(default_factory=load_settings)  # of the object store that holds the feature tables


class AsofDuckDBOfflineStore(DuckDBOfflineStore):
    """Reads Parquet sources in the object store; every query has a connection of its own, so threads may share it."""

    supports_filter_by_created_timestamp = False

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,  # noqa: ARG004 - Feast refuses it for this store
    ) -> RetrievalJob:
        """The newest feature row at or before each entity row, unless its TTL has passed; rows keep their order.

        Of feature rows with equal event time the newest created counts, where the source tells.
        """
        if not isinstance(entity_df, pd.DataFrame):
            raise TypeError(f"entity rows come as a pandas frame, not as {type(entity_df).__name__}")
        clock = infer_event_timestamp_from_entity_df(dict(entity_df.dtypes))
        entities = entity_df.assign(**{clock: pd.to_datetime(entity_df[clock], utc=True)})
        oldest, newest = entities[clock].min(), entities[clock].max()
        joins = [_AsofJoin(view, f"view_{number}", clock) for number, view in enumerate(feature_views)]
        columns = [f"entities.{quoted(name)}" for name in entities.columns]
        columns += [column for join in joins for column in join.columns(feature_refs, full_feature_names)]
        tables = ["entities", *(join.sql(oldest, newest) for join in joins)]
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        keys = [name for name in entities.columns if name != clock]
        return _job(
            config,
            f"SELECT {', '.join(columns)} FROM {' '.join(tables)} ORDER BY entity_row",
            entities=entities.assign(entity_row=range(len(entities))),
            on_demand=on_demand,
            full_feature_names=full_feature_names,
            metadata=RetrievalMetadata(feature_refs, keys, oldest, newest),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """The newest row of each key in a span of time, its ends included."""
        created = [created_timestamp_column] if created_timestamp_column else []
        columns = _listed([*join_key_columns, *feature_name_columns, timestamp_field, *created])
        rows = _rows(_parquet(data_source), join_key_columns, start_date, end_date)
        newest = f"PARTITION BY {_listed(join_key_columns)} ORDER BY {quoted(timestamp_field)} DESC"
        return _job(config, f"SELECT {columns} FROM ({rows}) QUALIFY row_number() OVER ({newest}) = 1")


@dataclass(frozen=True)
class _AsofJoin:
    """One view joined to the entity rows, under an alias of its own: a view may be joined several times."""

    view: FeatureView
    alias: str
    clock: str  # the entity rows' time

    @property
    def _source(self) -> FileSource:
        return _parquet(self.view.batch_source)

    @property
    def _keys(self) -> dict[str, str]:
        """The view's own key columns, each with the entity rows' column that is joined to it."""
        return self.view.projection.join_key_map or {column.name: column.name for column in self.view.entity_columns}

    def columns(self, feature_refs: list[str], full_feature_names: bool) -> list[str]:
        """The view's part of `view:feature` references; NULL where the newest row is older than the TTL."""
        name_in_refs = f"{self.view.projection.name_to_use()}:"  # type: ignore[no-untyped-call]
        names = [ref.removeprefix(name_in_refs) for ref in feature_refs if ref.startswith(name_in_refs)]
        prefix = f"{self.view.projection.name_alias or self.view.name}__" if full_feature_names else ""
        event_time = f"{self.alias}.{quoted(self._source.timestamp_field)}"
        expiry = f"{event_time} + to_seconds({self.view.ttl.total_seconds()})" if self.view.ttl else "'infinity'"
        is_alive = f"entities.{quoted(self.clock)} <= {expiry}"
        return [
            f"CASE WHEN {is_alive} THEN {self.alias}.{quoted(name)} END AS {quoted(prefix + name)}" for name in names
        ]

    def sql(self, oldest: datetime, newest: datetime) -> str:
        rows = _rows(self._source, list(self._keys), oldest - self.view.ttl if self.view.ttl else None, newest)
        equal = [f"entities.{quoted(theirs)} = {self.alias}.{quoted(own)}" for own, theirs in self._keys.items()]
        before = f"entities.{quoted(self.clock)} >= {self.alias}.{quoted(self._source.timestamp_field)}"
        return f"ASOF LEFT JOIN ({rows}) AS {self.alias} ON {' AND '.join([*equal, before])}"


class _DuckDBRetrievalJob(IbisRetrievalJob):
    """Feast's job, over a DuckDB relation instead of an Ibis table."""

    table: Any

    def _to_df_internal(self, timeout: int | None = None) -> Any:  # noqa: ARG002
        return self.table.df()

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:  # noqa: ARG002
        return self.table.to_arrow_table()


def _job(
    config: RepoConfig,
    query: str,
    *,
    entities: pd.DataFrame | None = None,
    on_demand: Iterable[OnDemandFeatureView] = (),
    full_feature_names: bool = False,
    metadata: RetrievalMetadata | None = None,
) -> RetrievalJob:
    connection = connect(config.offline_store.settings)
    if entities is not None:
        connection.register("entities", entities)
    return _DuckDBRetrievalJob(
        connection.sql(query),
        list(on_demand),
        full_feature_names,
        metadata=metadata,
        data_source_writer=None,
        staging_location=None,
        staging_location_endpoint_override=None,
        repo_path=config.repo_path,
    )


def _rows(source: FileSource, keys: list[str], since: datetime | None, until: datetime) -> str:
    """A source's rows in a span of time, its ends included; of those with equal key and time the newest created."""
    clock = quoted(source.timestamp_field)
    rows = f"SELECT * FROM read_parquet({literal(source.path)}) WHERE {clock} <= {_time(until)}"
    if since is not None:
        rows += f" AND {clock} >= {_time(since)}"
    if source.created_timestamp_column:
        newest = f"PARTITION BY {_listed(keys)}, {clock} ORDER BY {quoted(source.created_timestamp_column)} DESC"
        rows += f" QUALIFY row_number() OVER ({newest}) = 1"
    return rows


def _parquet(source: DataSource | None) -> FileSource:
    if not isinstance(source, FileSource):
        raise TypeError(f"a view reads Parquet files through a FileSource, not through {type(source).__name__}")
    return source


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(quoted, names))


def _time(moment: datetime) -> str:
    return f"{literal(moment.isoformat(timespec='microseconds'))}::TIMESTAMPTZ"
