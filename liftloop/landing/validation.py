"""Data rules: one Great Expectations suite, run on DuckDB and compiled to the SQL that sorts rows into quarantine."""

import json
import logging
import re
from dataclasses import dataclass, replace
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

from liftloop.duck import literal, quoted
from liftloop.errors import UserError

SUITE_PATH = Path("expectations/impressions.json")
_BATCH_QUERY = re.compile(r"\s*SELECT \* FROM {batch} WHERE (?P<predicate>.+)", re.DOTALL)
_EXAMPLES_PER_EXPECTATION = 5
_LONGEST_EXAMPLE_CHARACTERS = 60


class SuiteError(UserError):
    """The suite holds an expectation that cannot be compiled; the message names it and the remedy."""


@dataclass(frozen=True)
class Rule:
    """A row-level expectation as SQL: `violation` is true for the rows that break it, and null or false for others."""

    expected: str
    reason: str
    violation: str


@dataclass(frozen=True)
class Finding:
    """What one expectation observed."""

    expectation: str
    is_met: bool
    unexpected_count: int
    examples: tuple[str, ...]


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


def load_suite(path: Path = SUITE_PATH) -> gx.ExpectationSuite:
    """The suite as Great Expectations knows it."""
    return gx.ExpectationSuite(**json.loads(path.read_text(encoding="utf-8")))


def compile_rules(suite: gx.ExpectationSuite) -> list[Rule]:
    """The row-level expectations of a suite as SQL predicates; expectations about the whole table are left out.

    Raises:
        SuiteError: a row-level expectation has no SQL form here.
    """
    configurations = [expectation.configuration for expectation in suite.expectations]
    row_level = (c for c in configurations if not c.type.startswith("expect_table_"))
    return [_compile_configuration(configuration) for configuration in row_level]


def validate(database: Path, table: str, suite: gx.ExpectationSuite) -> list[Finding]:
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
    definition = gx.ValidationDefinition(name=table, data=batch, suite=context.suites.add(suite))
    context.validation_definitions.add(definition)
    shape = {"result_format": "BASIC", "partial_unexpected_count": _EXAMPLES_PER_EXPECTATION}
    try:
        return [_finding(result) for result in definition.run(result_format=shape).results]
    finally:
        source.get_engine().dispose()


def _finding(result: Any) -> Finding:
    configuration = result.expectation_config
    error = result.exception_info.get("exception_message") if result.exception_info else None
    details = result.result
    count = details.get("unexpected_count")
    if count is None:  # of the table as a whole, or with no rows to look at
        count = 0 if result.success else details.get("observed_value") or 1
    examples = [error] if error else details.get("partial_unexpected_list", [])
    shortened = tuple(_shown(example)[:_LONGEST_EXAMPLE_CHARACTERS] for example in examples if example is not None)
    is_row_level = not configuration.type.startswith("expect_table_")
    described = _compile_configuration(configuration).expected if is_row_level else configuration.description
    return Finding(described, bool(result.success), int(count), shortened)


def _shown(example: Any) -> str:
    """A value or a pair of values, as a reader wants it."""
    parts = example if isinstance(example, tuple) else (example,)
    return " and ".join(f"{part:%F %T}" if isinstance(part, datetime) else str(part) for part in parts)


def _compile_configuration(configuration: Any) -> Rule:
    rule = _compile(configuration.type, configuration.kwargs, configuration.description)
    return replace(rule, expected=configuration.description or rule.expected)


def _compile(kind: str, kwargs: dict[str, Any], description: str | None) -> Rule:
    if kwargs.get("row_condition") or kwargs.get("mostly", 1) != 1:
        raise SuiteError(f"{kind} {kwargs}: row_condition and mostly have no row-level form; write unexpected rows")
    match kind:
        case "expect_column_values_to_not_be_null":
            column = kwargs["column"]
            return Rule(f"{column} is given", f"{column} is missing", f"{quoted(column)} IS NULL")
        case "expect_column_values_to_be_in_set":
            column, allowed = kwargs["column"], ", ".join(literal(value) for value in kwargs["value_set"])
            violation = f"{quoted(column)} NOT IN ({allowed})"
            return Rule(f"{column} is one of {allowed}", f"{column} is not one of {allowed}", violation)
        case "expect_column_values_to_be_between":
            return _outside(kwargs["column"], quoted(kwargs["column"]), kwargs)
        case "expect_column_value_lengths_to_be_between":
            return _outside(f"length of {kwargs['column']}", f"length({quoted(kwargs['column'])})", kwargs)
        case "expect_column_pair_values_a_to_be_greater_than_b":
            return _less_than(kwargs["column_A"], kwargs["column_B"], "<" if kwargs.get("or_equal") else "<=")
        case "unexpected_rows_expectation":
            return _unexpected_rows(kwargs, description)
    raise SuiteError(f"{kind} has no row-level form; express it as unexpected_rows_expectation")


def _less_than(a: str, b: str, below: str) -> Rule:
    return Rule(f"not {a} {below} {b}", f"{a} {below} {b}", f"{quoted(a)} {below} {quoted(b)}")


def _outside(subject: str, expression: str, kwargs: dict[str, Any]) -> Rule:
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    opening, closing = ("(" if kwargs.get("strict_min") else "["), (")" if kwargs.get("strict_max") else "]")
    below, above = ("<=" if kwargs.get("strict_min") else "<"), (">=" if kwargs.get("strict_max") else ">")
    limits = [(below, low), (above, high)]
    violations = [f"{expression} {sign} {literal(limit)}" for sign, limit in limits if limit is not None]
    shown = f"{opening}{'-∞' if low is None else low}, {'∞' if high is None else high}{closing}"
    return Rule(f"{subject} is within {shown}", f"{subject} is outside {shown}", " OR ".join(violations))


def _unexpected_rows(kwargs: dict[str, Any], description: str | None) -> Rule:
    query = _BATCH_QUERY.fullmatch(kwargs["unexpected_rows_query"])
    if query is None or not description:
        raise SuiteError(f"{kwargs}: needs a description and a query of the form SELECT * FROM {{batch}} WHERE …")
    return Rule(description, f"breaks the rule: {description}", query["predicate"])
