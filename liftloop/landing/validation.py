"""Great Expectations runs the suite on DuckDB: tables, or Parquet and CSV files where they lie."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import duckdb
import great_expectations as gx
from duckdb_engine import ConnectionWrapper
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.datasource.fluent.sql_datasource import SQLDatasource
from great_expectations.execution_engine.sqlalchemy_execution_engine import SqlAlchemyExecutionEngine
from great_expectations.expectations.registry import get_metric_provider
from great_expectations.validator.metric_configuration import MetricConfiguration

from liftloop.landing.files import view_of_files
from liftloop.landing.rules import Finding, Suite, compile_rule, is_row_level

_EXAMPLES_PER_EXPECTATION = 5
_LONGEST_EXAMPLE_CHARACTERS = 60
_COUNTS = {"unexpected_values": "unexpected_count", "table": "row_count"}  # kind of examples -> their number


class DuckDBEngine(SqlAlchemyExecutionEngine):
    """Great Expectations' SQL engine, mended for DuckDB: it keeps results readable and reads the data once."""

    @contextmanager
    def get_connection(self) -> Iterator[Any]:
        """Always the same one: the engine reads results after it closed a connection, and DuckDB's are gone by then."""
        self._connection = self._connection or self.engine.connect()
        yield self._connection

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
        """Only what is cheapest now: Great Expectations comes again for what it did not get.

        So one scan counts for all expectations, and examples are looked for only where there are any.
        """
        wanted, known = [*metrics_to_resolve], metrics or {}
        resolved: dict[Any, Any] = {metric.id: [] for metric in wanted if known.get(_count_of(metric)) == 0}
        wanted = [metric for metric in wanted if metric.id not in resolved]
        first = min(map(self._turn, wanted), default=0)
        now = [metric for metric in wanted if self._turn(metric) == first]
        return resolved | super().resolve_metrics(now, metrics, runtime_configuration)

    def _turn(self, metric: MetricConfiguration) -> int:
        """0: takes no scan, or one of its own; 1: one of the counts that share a scan; 2: examples."""
        if _count_of(metric):
            return 2
        is_bundled = get_metric_provider(metric.metric_name, self)[1] is None
        return int(is_bundled)


def _count_of(metric: MetricConfiguration) -> Any:
    """The metric that says how many examples there are to look for; None if it is no metric of examples."""
    name, _, kind = metric.metric_name.rpartition(".")
    if kind not in _COUNTS or name in {"", "query"}:
        return None
    kwargs = {key: value for key, value in metric.metric_value_kwargs.items() if key != "result_format"}
    return MetricConfiguration(f"{name}.{_COUNTS[kind]}", metric.metric_domain_kwargs, kwargs).id


class DuckDBDatasource(SQLDatasource):
    """Great Expectations' generic SQL data source, on the engine above: `context.data_sources.add_duckdb(…)`."""

    type: Literal["duckdb"] = "duckdb"  # type: ignore[assignment]  # names the kind of source

    @property
    def execution_engine_type(self) -> Any:
        return DuckDBEngine


def validate(connection: duckdb.DuckDBPyConnection, table: str, suite: Suite) -> list[Finding]:
    """Run the suite on one table or view (no temporary one) of an open DuckDB connection.

    Memory does not grow with the rows.
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
        cursor.execute("SET streaming_buffer_size = '10KB'")  # a few examples are wanted: scan no further
        source = context.data_sources.add_duckdb(
            name="batch", connection_string="duckdb://", kwargs={"creator": lambda: ConnectionWrapper(cursor)}
        )
        batch = source.add_table_asset(name=table, table_name=table).add_batch_definition_whole_table("all")
        definition = gx.ValidationDefinition(
            name=table, data=batch, suite=context.suites.add(gx.ExpectationSuite(**_in_our_words(suite)))
        )
        context.validation_definitions.add(definition)
        shape = {"result_format": "BASIC", "partial_unexpected_count": _EXAMPLES_PER_EXPECTATION}
        try:
            return [_finding(result) for result in definition.run(result_format=shape).results]
        finally:
            source.get_execution_engine().close()


def validate_files(
    uris: Sequence[str | Path], suite: Suite, connection: duckdb.DuckDBPyConnection | None = None
) -> list[Finding]:
    """Run the suite on Parquet, CSV or TSV files as if they were one table; NaNs are missing values, as in pandas.

    Args:
        uris: of one format; local paths, or s3://… if the connection can read it (`liftloop.duck.connect`).
        suite: as `load_suite` reads it.
        connection: where to run it; by default a new one in memory.
    """
    connection = connection or duckdb.connect()
    view_of_files(connection, "files", uris)
    return validate(connection, "files", suite)


def _in_our_words(suite: Suite) -> Suite:
    """The suite with what each expectation expects, as the rules say it; that comes back with each result."""
    return suite | {"expectations": [each | {"meta": {"expected": _expected(each)}} for each in suite["expectations"]]}


def _expected(expectation: dict[str, Any]) -> str:
    if not is_row_level(expectation["type"]):
        return str(expectation["description"])
    return compile_rule(expectation).expected


def _finding(result: Any) -> Finding:
    error = result.exception_info.get("exception_message") if result.exception_info else None
    details = result.result
    count = details.get("unexpected_count")
    if count is None:  # of the table as a whole, or with no rows to look at
        count = 0 if result.success else details.get("observed_value") or 1
    examples = [error] if error else details.get("partial_unexpected_list", [])
    shortened = tuple(_shown(example)[:_LONGEST_EXAMPLE_CHARACTERS] for example in examples if example is not None)
    return Finding(result.expectation_config.meta["expected"], bool(result.success), int(count), shortened)


def _shown(example: Any) -> str:
    """A value or a pair of values, as a reader wants it."""
    parts = example if isinstance(example, tuple) else (example,)
    return " and ".join(f"{part:%F %T}" if isinstance(part, datetime) else str(part) for part in parts)
