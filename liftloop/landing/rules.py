"""The data rules: the row-level expectations of one Great Expectations suite as SQL that sorts rows into quarantine.

`validation.py` runs the suite in Great Expectations, which takes seconds to import and is not needed here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import duckdb

from liftloop.contract.suite import OnFailure, Suite, SuiteError, is_row_level, on_failure, predicate_text
from liftloop.storage.duckdb import literal, quoted


@dataclass(frozen=True)
class Rule:
    """A row-level expectation as SQL: `violation` is true for rows that break it, null or false for others."""

    expected: str
    reason: str
    violation: str
    holds_file: bool = False  # a single row that breaks it holds the whole file


@dataclass(frozen=True)
class Finding:
    """The result of one expectation, and what follows if it is not met."""

    expectation: str
    on_failure: OnFailure
    is_met: bool
    unexpected_count: int
    examples: tuple[str, ...]


def compile_rules(suite: Suite) -> list[Rule]:
    """The row-level expectations of a suite as SQL predicates, without those that only warn.

    Raises:
        SuiteError: a row-level expectation has no SQL form here.
    """
    row_level = (each for each in suite["expectations"] if is_row_level(each) and on_failure(each) != "warn")
    return [compile_rule(each) for each in row_level]


def reasons_of(rules: Iterable[Rule]) -> str:
    """SQL expression of the reasons why a row is bad, as a list; empty for a good row, at the least cost."""
    checks = [*rules]
    is_bad = " OR ".join(["false", *(f"coalesce({rule.violation}, false)" for rule in checks)])
    reasons = ", ".join(f"CASE WHEN {rule.violation} THEN {literal(rule.reason)} END" for rule in checks)
    return f"CASE WHEN {is_bad} THEN list_filter([{reasons}], lambda reason: reason IS NOT NULL) ELSE [] END"


def compile_rule(expectation: dict[str, Any]) -> Rule:
    """One row-level expectation; its description, if it has one, is the expected text."""
    description = expectation.get("description")
    try:
        rule = _compile(expectation["type"], expectation["kwargs"], description)
    except KeyError as missing:
        raise SuiteError(f"{expectation['type']} {expectation['kwargs']}: lacks {missing}") from None
    return replace(rule, expected=description or rule.expected, holds_file=on_failure(expectation) == "hold_file")


def _compile(kind: str, kwargs: dict[str, Any], description: str | None) -> Rule:
    if kwargs.get("row_condition") or kwargs.get("mostly", 1) != 1:
        raise SuiteError(f"{kind} {kwargs}: row_condition and mostly have no row-level form; write unexpected rows")
    match kind:
        case "expect_column_values_to_not_be_null":
            column = kwargs["column"]
            return Rule(f"{column} is given", f"{column} is missing", f"{quoted(column)} IS NULL")
        case "expect_column_values_to_be_in_set":
            return _not_in(kwargs["column"], [value for value in kwargs["value_set"] if value is not None])
        case "expect_column_values_to_be_between":
            return _outside(kwargs["column"], quoted(kwargs["column"]), kwargs)
        case "expect_column_value_lengths_to_be_between":
            return _outside(f"length of {kwargs['column']}", f"length({quoted(kwargs['column'])})", kwargs)
        case "expect_column_pair_values_a_to_be_greater_than_b":
            return _less_than(kwargs)
        case "unexpected_rows_expectation":
            return _unexpected_rows(kwargs, description)
    raise SuiteError(f"{kind} has no row-level form; express it as unexpected_rows_expectation")


def _not_in(column: str, values: list[Any]) -> Rule:
    """A missing value never violates a set, so a null in the set is ignored."""
    allowed = ", ".join(map(literal, values))
    violation = f"{quoted(column)} NOT IN ({allowed})" if values else f"{quoted(column)} IS NOT NULL"
    return Rule(f"{column} is one of {allowed}", f"{column} is not one of {allowed}", violation)


def _less_than(kwargs: dict[str, Any]) -> Rule:
    if kwargs.get("ignore_row_if") != "either_value_is_missing":
        raise SuiteError(f"{kwargs}: set ignore_row_if to either_value_is_missing; engines differ where only one is")
    a, b, below = kwargs["column_A"], kwargs["column_B"], "<" if kwargs.get("or_equal") else "<="
    return Rule(f"not {a} {below} {b}", f"{a} {below} {b}", f"{quoted(a)} {below} {quoted(b)}")


def _outside(subject: str, expression: str, kwargs: dict[str, Any]) -> Rule:
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    opening, closing = ("(" if kwargs.get("strict_min") else "["), (")" if kwargs.get("strict_max") else "]")
    below, above = ("<=" if kwargs.get("strict_min") else "<"), (">=" if kwargs.get("strict_max") else ">")
    limits = [(below, low), (above, high)]
    violations = [f"{expression} {sign} {literal(limit)}" for sign, limit in limits if limit is not None]
    if not violations:
        raise SuiteError(f"{kwargs}: give min_value, max_value or both")
    shown = f"{opening}{'-∞' if low is None else low}, {'∞' if high is None else high}{closing}"
    return Rule(f"{subject} is within {shown}", f"{subject} is outside {shown}", " OR ".join(violations))


def _unexpected_rows(kwargs: dict[str, Any], description: str | None) -> Rule:
    predicate = predicate_of(kwargs["unexpected_rows_query"])
    if predicate is None or not description:
        raise SuiteError(f"{kwargs}: needs a description and a query of the form SELECT * FROM {{batch}} WHERE …")
    return Rule(description, f"breaks the rule: {description}", predicate)


def predicate_of(query: str) -> str | None:
    """The predicate of `SELECT * FROM {batch} WHERE …`; None if the query has another form."""
    predicate = predicate_text(query)
    try:
        duckdb.extract_statements(f"SELECT ({predicate})")
    except duckdb.ParserException:  # more than a predicate: a limit, an order
        return None
    return predicate
