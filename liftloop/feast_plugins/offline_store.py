"""Feast's DuckDB offline store with ASOF joins: the same values, in row order, and fast on hourly tables.

Feast's own store joins every entity row with every earlier feature row and then keeps the newest; it also downloads
DuckDB's S3 extension, and does not accept a TTL of mixed units such as 7 days and 1 hour.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import ibis
import pandas as pd
import pyarrow as pa
from feast import FeatureView, FileSource, RepoConfig
from feast.data_source import DataSource
from feast.infra.offline_stores.duckdb import DuckDBOfflineStore, DuckDBOfflineStoreConfig, _write_data_source
from feast.infra.offline_stores.ibis import IbisRetrievalJob
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df
from feast.infra.registry.base_registry import BaseRegistry
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.saved_dataset import SavedDatasetStorage
from pydantic import SecretStr, StrictStr

from liftloop.feast_plugins.asof_join import AsofJoin, ParquetTable, join_features
from liftloop.feast_plugins.duckdb_s3 import S3Access, connect, quoted


class AsofDuckDBOfflineStoreConfig(DuckDBOfflineStoreConfig):
    type: StrictStr = "liftloop.feast_plugins.offline_store.AsofDuckDBOfflineStore"
    s3_endpoint_url: StrictStr | None = None  # None: AWS
    s3_region: StrictStr = "us-east-1"
    s3_access_key_id: StrictStr | None = None
    s3_secret_access_key: SecretStr | None = None
    dask_scheduler: StrictStr | None = None  # its address; None: joins are computed in this process
    date_partition: StrictStr | None = "date"  # folders of this name hold one UTC day of event time; None: none do

    @property
    def access(self) -> S3Access:
        secret = self.s3_secret_access_key
        plain = secret.get_secret_value() if secret else None
        return S3Access(self.s3_endpoint_url, self.s3_region, self.s3_access_key_id, plain)


class AsofDuckDBOfflineStore(DuckDBOfflineStore):
    """Reads Parquet files; every query opens its own connection, so threads may share the store."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
    ) -> RetrievalJob:
        """The newest feature row at or before each entity row, unless its TTL has passed; rows keep their order.

        Of feature rows with equal event time the most recently created counts, if the source has creation times. With
        `filter_by_created_timestamp` a row created after the entity row's time is ignored.
        """
        if not isinstance(entity_df, pd.DataFrame):
            raise TypeError(f"entity rows must be a pandas frame, not {type(entity_df).__name__}")
        moment = infer_event_timestamp_from_entity_df(dict(entity_df.dtypes))
        entities = entity_df.assign(**{moment: pd.to_datetime(entity_df[moment], utc=True, cache=False)})
        joins = [
            _join(config, view, feature_refs, full_feature_names, filter_by_created_timestamp) for view in feature_views
        ]

        def compute() -> pa.Table:
            store = config.offline_store
            features = join_features(store.access, entities, moment, joins, store.dask_scheduler)
            table = pa.Table.from_pandas(entities, preserve_index=False)
            names = table.column_names + features.column_names
            return pa.table(table.columns + features.columns, names=names)

        return _job(
            config,
            compute,
            on_demand=OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            full_feature_names=full_feature_names,
            metadata=RetrievalMetadata(
                features=feature_refs,
                keys=[name for name in entities.columns if name != moment],
                min_event_timestamp=entities[moment].min(),
                max_event_timestamp=entities[moment].max(),
            ),
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
        """The row of each key that counts at the end of a time span, ends included."""
        table = _table(config, data_source, timestamp_field, created_timestamp_column)
        columns = [*join_key_columns, *feature_name_columns]
        return _pull(config, table, columns, join_key_columns, (start_date, end_date))

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """All rows of a time span, ends included; of rows with equal keys and event time the most recently created.

        Without a column of creation times all rows are returned, as for a saved dataset.
        """
        table = _table(config, data_source, timestamp_field, created_timestamp_column)
        columns = [*join_key_columns, *feature_name_columns]
        one_of = [*join_key_columns, timestamp_field] if created_timestamp_column else None
        return _pull(config, table, columns, one_of, (start_date, end_date))


class _ArrowJob(IbisRetrievalJob):
    """Feast's job over a function that computes an Arrow table instead of an Ibis table."""

    table: Callable[[], pa.Table]

    def _to_df_internal(self, timeout: int | None = None) -> Any:  # noqa: ARG002
        return self.table().to_pandas()

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:  # noqa: ARG002
        return self.table()

    def persist(self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None) -> None:
        rows = ibis.memtable(self.to_arrow(timeout=timeout))
        _write_data_source(rows, storage.to_data_source(), self.repo_path, "overwrite", allow_overwrite)


def _job(
    config: RepoConfig,
    compute: Callable[[], pa.Table],
    *,
    on_demand: Iterable[OnDemandFeatureView] = (),
    full_feature_names: bool = False,
    metadata: RetrievalMetadata | None = None,
) -> RetrievalJob:
    return _ArrowJob(
        compute,
        list(on_demand),
        full_feature_names,
        metadata=metadata,
        data_source_writer=None,
        staging_location=None,
        staging_location_endpoint_override=None,
        repo_path=config.repo_path,
    )


def _join(
    config: RepoConfig,
    view: FeatureView,
    feature_refs: list[str],
    full_feature_names: bool,
    is_known_when_created: bool,
) -> AsofJoin:
    """The join of one view in the `view:feature` references; a view may be joined several times, by different keys."""
    source = _file_source(view.batch_source)
    name_in_refs = f"{view.projection.name_to_use()}:"  # type: ignore[no-untyped-call]
    names = [ref.removeprefix(name_in_refs) for ref in feature_refs if ref.startswith(name_in_refs)]
    prefix = f"{view.projection.name_alias or view.name}__" if full_feature_names else ""
    renamed = view.projection.join_key_map or {}
    keys = {column.name: renamed.get(column.name, column.name) for column in view.entity_columns}
    in_file = {name: column for column, name in source.field_mapping.items()}
    created = source.created_timestamp_column
    return AsofJoin(
        _table(
            config,
            source,
            in_file.get(source.timestamp_field, source.timestamp_field),
            in_file.get(created, created) if created else None,
        ),
        keys={in_file.get(own, own): theirs for own, theirs in keys.items()},
        features={in_file.get(name, name): prefix + name for name in names},
        time_to_live=view.ttl or None,
        is_known_when_created=is_known_when_created,
    )


def _pull(
    config: RepoConfig,
    table: ParquetTable,
    columns: list[str],
    one_of: list[str] | None,
    span: tuple[datetime | None, datetime | None],
) -> RetrievalJob:
    """Columns and times of the rows in a span; only the row that counts among rows with equal values of `one_of`."""
    times = [table.event_time, *([table.created] if table.created else [])]

    def compute() -> pa.Table:
        with connect(config.offline_store.access) as connection:
            query = f"SELECT {_listed([*columns, *times])} FROM {table.rows(table.files(connection), *span)}"
            if one_of:
                alike = f"PARTITION BY {_listed(one_of)} ORDER BY {table.rank} DESC"
                query += f" QUALIFY row_number() OVER ({alike}) = 1"
            return connection.execute(query).to_arrow_table()

    return _job(config, compute)


def _table(config: RepoConfig, source: DataSource, event_time: str, created: str | None) -> ParquetTable:
    path = _file_source(source).path
    if "://" not in path:
        path = FileSource.get_uri_for_file_path(config.repo_path, path)
    return ParquetTable(path, event_time, created or None, config.offline_store.date_partition)


def _file_source(source: DataSource | None) -> FileSource:
    if not isinstance(source, FileSource):
        raise TypeError(f"the source of a view must be a FileSource of Parquet files, not {type(source).__name__}")
    return source


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(quoted, names))
