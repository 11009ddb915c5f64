"""Great Expectations runs the suite on DuckDB."""

import logging
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import great_expectations as gx
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.datasource.fluent.sql_datasource import SQLDatasource
from great_expectations.execution_engine.sqlalchemy_execution_engine import SqlAlchemyExecutionEngine

from liftloop.landing.rules import Finding, Suite, compile_rule, is_row_level

_EXAMPLES_PER_EXPECTATION = 5
_LONGEST_EXAMPLE_CHARACTERS = 60


class _DuckDBEngine(SqlAlchemyExecutionEngine):
    """Great Expectations reads results after it closed the connection; DuckDB's are gone by then, so keep them."""

    def execute_query(self, query: Any) -> Any:
        with self.get_connection() as connection:
            result = self._execute_query_with_recovery(connection, query)
            return result.freeze()() if result.returns_rows else result

    execute_query_in_transaction = execute_query


class DuckDBDatasource(SQLDatasource):
    """Great Expectations' generic SQL data source, on the engine above."""

    type: Literal["duckdb"] = "duckdb"  # type: ignore[assignment]  # names the kind of source

    @property
    def execution_engine_type(self) -> Any:
        return _DuckDBEngine


def validate(database: Path, table: str, suite: Suite) -> list[Finding]:
    """Run the suite on one table of a DuckDB file."""
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(),
            progress_bars=ProgressBarsConfig(globally=False),
            analytics_enabled=False,
        ),
        mode="ephemeral",
    )
    source = context.data_sources.add_duckdb(name="batch", connection_string=f"duckdb:///{database}")
    batch = source.add_table_asset(name=table, table_name=table).add_batch_definition_whole_table("all")
    definition = gx.ValidationDefinition(
        name=table, data=batch, suite=context.suites.add(gx.ExpectationSuite(**_in_our_words(suite)))
    )
    context.validation_definitions.add(definition)
    shape = {"result_format": "BASIC", "partial_unexpected_count": _EXAMPLES_PER_EXPECTATION}
    try:
        return [_finding(result) for result in definition.run(result_format=shape).results]
    finally:
        source.get_engine().dispose()


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
