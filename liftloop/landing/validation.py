"""Validation: Great Expectations runs the suite on DuckDB tables, or on Parquet and CSV files in place."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import duckdb
import great_expectations as gx
import sqlalchemy as sa
from duckdb_engine import ConnectionWrapper
from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.core.metric_function_types import MetricPartialFunctionTypes
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.datasource.fluent.sql_datasource import SQLDatasource
from great_expectations.execution_engine.sqlalchemy_execution_engine import SqlAlchemyExecutionEngine
from great_expectations.expectations.metrics.metric_provider import metric_partial
from great_expectations.expectations.metrics.query_metrics.query_row_count.unexpected_rows_query_row_count import (
    UnexpectedRowsQueryRowCount,
)
from great_expectations.expectations.registry import get_metric_provider
from great_expectations.validator.metric_configuration import MetricConfiguration
from sqlalchemy.exc import DBAPIError

from liftloop.contract.suite import Suite, SuiteError, is_row_level, on_failure
from liftloop.landing.files import view_of_files
from liftloop.landing.rules import Finding, compile_rule, predicate_of

_EXAMPLES_PER_EXPECTATION = 5
_LONGEST_EXAMPLE_CHARACTERS = 60
_COUNTS = {
    "unexpected_values": "unexpected_count",
    "table": "row_count",
}  # kind of examples -> metric with their number


class DuckDBEngine(SqlAlchemyExecutionEngine):
    """Great Expectations' SQL engine, adapted to DuckDB: results stay readable, and the data is read once."""

    @contextmanager
    def get_connection(self) -> Iterator[Any]:
        """Always the same one: the engine reads results after closing a connection, when DuckDB has dropped them."""
        self._connection = self._connection or self.engine.connect()
        try:
            yield self._connection
        except DBAPIError:
            self._connection.rollback()  # otherwise every later query fails, too
            raise

    def close(self) -> None:
        if self._connection:
            self._connection.close()
        super().close()

    def resolve_metrics(
        self,
        metrics_to_resolve: Iterable[MetricConfiguration],
        metrics: dict[Any, Any] | None = None,
        runtime_configuration: dict[str, Any] | None = None,
    ) -> dict[Any, Any]:
        """Resolves only the cheapest metrics: Great Expectations asks again for the others.

        So one scan counts for all expectations, and examples are fetched only where there are any.
        """
        wanted, known = [*metrics_to_resolve], metrics or {}
        resolved: dict[Any, Any] = {metric.id: [] for metric in wanted if known.get(_count_of(metric)) == 0}
        wanted = [metric for metric in wanted if metric.id not in resolved]
        first = min(map(self._stage, wanted), default=0)
        now = [metric for metric in wanted if self._stage(metric) == first]
        return resolved | super().resolve_metrics(now, metrics, runtime_configuration)

    def _stage(self, metric: MetricConfiguration) -> int:
        """0: no scan, or a scan of its own; 1: a count that shares one scan with others; 2: examples."""
        if _count_of(metric):
            return 2
        if metric.metric_name == "table.row_count":  # other metrics depend on it
            return 0
        is_bundled = get_metric_provider(metric.metric_name, self)[1] is None
        return int(is_bundled)


def _count_of(metric: MetricConfiguration) -> Any:
    """The metric with the number of examples that this one fetches; None if it fetches none."""
    name, _, kind = metric.metric_name.rpartition(".")
    if kind not in _COUNTS or name in {"", "query"}:
        return None
    kwargs = {key: value for key, value in metric.metric_value_kwargs.items() if key != "result_format"}
    return MetricConfiguration(f"{name}.{_COUNTS[kind]}", metric.metric_domain_kwargs, kwargs).id


class CountOfUnexpectedRows(UnexpectedRowsQueryRowCount):
    """The number of rows that a rule in SQL finds; on DuckDB it is counted in the scan that all counts share."""

    @metric_partial(
        engine=DuckDBEngine,
        partial_fn_type=MetricPartialFunctionTypes.AGGREGATE_FN,
        domain_type=MetricDomainTypes.TABLE,
    )
    def _duckdb(
        cls,
        execution_engine: DuckDBEngine,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        **_: Any,
    ) -> Any:
        query = cls._get_query_from_metric_value_kwargs(metric_value_kwargs)
        domain = metric_domain_kwargs | {"table": None}  # like counts of columns: one domain, one scan
        if predicate := predicate_of(query):
            return sa.literal_column(f"count(*) FILTER ({predicate})"), domain, {}
        rows, _, _ = execution_engine.get_compute_domain(metric_domain_kwargs, MetricDomainTypes.TABLE)
        found = cls._get_substituted_batch_subquery_from_query_and_batch_selectable(query, rows, execution_engine)
        return sa.literal_column(f"(SELECT count(*) FROM ({found}\n)) + 0 * count(*)"), domain, {}


class DuckDBDatasource(SQLDatasource):
    """Great Expectations' generic SQL data source on the engine above: `context.data_sources.add_duckdb(…)`."""

    type: Literal["duckdb"] = "duckdb"  # type: ignore[assignment]  # names the kind of source

    @property
    def execution_engine_type(self) -> Any:
        return DuckDBEngine


def validate(connection: duckdb.DuckDBPyConnection, table: str, suite: Suite) -> list[Finding]:
    """Run the suite on one table or view (not a temporary one) of an open DuckDB connection.

    Memory use does not grow with the number of rows.
    """
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(),
            progress_bars=ProgressBarsConfig(globally=False),
            analytics_enabled=False,
        ),
        mode="ephemeral",
    )
    with connection.cursor() as cursor:
        cursor.execute("SET TimeZone = 'UTC'")
        cursor.execute("SET streaming_buffer_size = '10KB'")  # a few examples are enough: stop the scan early
        source = context.data_sources.add_duckdb(
            name="batch", connection_string="duckdb://", kwargs={"creator": lambda: ConnectionWrapper(cursor)}
        )
        batch = source.add_table_asset(name=table, table_name=table).add_batch_definition_whole_table("all")
        definition = gx.ValidationDefinition(name=table, data=batch, suite=context.suites.add(_gx_suite(suite)))
        context.validation_definitions.add(definition)
        shape = {"result_format": "BASIC", "partial_unexpected_count": _EXAMPLES_PER_EXPECTATION}
        try:
            return [_finding(result) for result in definition.run(result_format=shape).results]
        finally:
            source.get_execution_engine().close()


def validate_files(
    uris: Sequence[str | Path], suite: Suite, connection: duckdb.DuckDBPyConnection | None = None
) -> list[Finding]:
    """Run the suite on Parquet, CSV or TSV files as one table; NaNs are missing values, as in pandas.

    Args:
        uris: of one format; local paths, or s3://… if the connection can read it (`liftloop.storage.duckdb.connect`).
        suite: as `load_suite` reads it.
        connection: the DuckDB connection to use; None: a new one in memory.
    """
    connection = connection or duckdb.connect()
    view_of_files(connection, "files", uris)
    return validate(connection, "files", suite)


def _gx_suite(suite: Suite) -> gx.ExpectationSuite:
    """The suite in Great Expectations' own classes, which leave out in silence what they do not know.

    Raises:
        SuiteError: there is no such expectation, or it lacks an argument.
    """
    try:
        ours = gx.ExpectationSuite(**_with_expected(suite))
    except ValueError as error:  # of pydantic
        raise SuiteError(f"{suite['name']}: {' '.join(str(error).split())}") from None
    known = {each.expectation_type for each in ours.expectations}
    if unknown := sorted({each["type"] for each in suite["expectations"]} - known):
        raise SuiteError(f"{suite['name']}: {unknown}: Great Expectations has no expectation of this name")
    return ours


def _with_expected(suite: Suite) -> Suite:
    """The suite with each expectation's text as in the data rules; it is returned with each result."""
    described = [
        each | {"meta": {"expected": _expected(each), "on_failure": on_failure(each)}} for each in suite["expectations"]
    ]
    return suite | {"expectations": described}


def _expected(expectation: dict[str, Any]) -> str:
    if not is_row_level(expectation):
        return str(expectation.get("description") or f"{expectation['type']} {expectation['kwargs']}")
    return compile_rule(expectation).expected


def _finding(result: Any) -> Finding:
    error = _error_of(result.exception_info or {})
    details = result.result
    count = details.get("unexpected_count")
    if count is None:  # an expectation about the whole table, or a table without rows
        observed = details.get("observed_value")
        count = 0 if result.success else observed if isinstance(observed, int) and observed else 1
    examples = [example for example in details.get("partial_unexpected_list", []) if example is not None]
    shown = (error.splitlines()[0],) if error else tuple(map(_shown, examples))
    meta = result.expectation_config.meta
    return Finding(meta["expected"], meta["on_failure"], bool(result.success), int(count), shown)


def _error_of(exceptions: dict[str, Any]) -> str | None:
    """The first error message; Great Expectations reports one error, or one per metric."""
    for exception in (exceptions, *exceptions.values()):
        if isinstance(exception, dict) and exception.get("exception_message"):
            return str(exception["exception_message"])
    return None


def _shown(example: Any) -> str:
    """A value or a pair of values as text."""
    parts = example if isinstance(example, tuple) else (example,)
    shown = " and ".join(f"{part:%F %T}" if isinstance(part, datetime) else str(part) for part in parts)
    return shown[:_LONGEST_EXAMPLE_CHARACTERS]
