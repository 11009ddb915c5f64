"""The data rules of a source, in Great Expectations' format: the suite of all sources, and one of its own."""

import json
import re
from pathlib import Path
from typing import Any, Literal, get_args

from liftloop.contract.contract import MEANINGS, Contract
from liftloop.contract.expressions import binding_error, names_in
from liftloop.contract.sections import Amounts
from liftloop.errors import UserError
from liftloop.project import find_project
from liftloop.storage.hashing import fingerprint_of

Suite = dict[str, Any]  # the arguments of a Great Expectations suite
Expectation = dict[str, Any]
OnFailure = Literal["reject_rows", "hold_file", "warn"]

_ROW_LEVEL = re.compile("expect_(column_values?|column_pair_values|multicolumn|compound|select)_|unexpected_rows_")
_COMPARING = {"expect_column_values_to_be_in_set", "expect_column_values_to_be_between"}
_PREDICATE = re.compile(r"\s*SELECT \* FROM {batch} WHERE (?P<predicate>.+)", re.DOTALL)
# The sections of a contract that decide which rows a landed file becomes.
_SHAPING = {
    "source",
    "landing",
    "lookups",
    "columns",
    "context",
    "keep",
    "outcome_files",
    "amounts",
    "deduplicate_by",
    "outcome",
    "quarantine_share_limit",
    "duplicate_share_limit",
}


class SuiteError(UserError):
    """The suite cannot be used; the message names file or expectation, and the remedy."""


def load_suite(contract: Contract | None = None) -> Suite:
    """The rules of all sources; with a contract, as its choices want them, and those of the source's own file.

    Raises:
        SuiteError: a file is not JSON, has no expectations, or one of these cannot be applied to the source.
    """
    file = find_project().suite_file
    suite = _read(file)
    rules = _chosen(file, suite["expectations"], contract)
    own = file.with_name(f"{contract.source}.json") if contract else file
    if own != file and own.is_file():
        rules += _chosen(own, _read(own)["expectations"], contract)
    return suite | {"expectations": rules}


def reading_fingerprint(contract: Contract) -> str:
    """Changes when the suite does, or a part of the contract that decides which rows a landed file becomes."""
    shaping = contract.model_dump_json(include=_SHAPING, exclude_defaults=True)
    return fingerprint_of(shaping, json.dumps(load_suite(contract), sort_keys=True))


def is_row_level(expectation: Expectation) -> bool:
    """Whether the expectation is about single rows; others are about a whole file."""
    return bool(_ROW_LEVEL.match(expectation["type"]))


def on_failure(expectation: Expectation) -> OnFailure:
    """What follows if it is not met: `meta.on_failure`, or the rows are rejected, or the whole file is held.

    Raises:
        SuiteError: it says something else, or asks for a rejection of rows that it cannot name.
    """
    default = "reject_rows" if is_row_level(expectation) else "hold_file"
    wanted: OnFailure = _meta(expectation).get("on_failure", default)
    allowed = [each for each in get_args(OnFailure) if is_row_level(expectation) or each != "reject_rows"]
    if wanted not in allowed:
        raise SuiteError(f"{expectation['type']}: meta.on_failure: {wanted!r}: allowed: {', '.join(allowed)}")
    return wanted


def predicate_text(query: str) -> str | None:
    """The predicate of `SELECT * FROM {batch} WHERE …`; None if the query has another form."""
    if (match := _PREDICATE.fullmatch(query)) is None:
        return None
    return match["predicate"].replace("{{", "{").replace("}}", "}")  # as Great Expectations reads braces


def _read(file: Path) -> Suite:
    try:
        suite: Suite = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SuiteError(
            f"{file}: not readable as JSON: {error}; correct it, or take the one of the repository"
        ) from None
    if not isinstance(suite, dict) or not isinstance(suite.get("expectations"), list):
        raise SuiteError(f"{file}: expectations: missing; it is a Great Expectations suite with a list of them")
    for expectation in suite["expectations"]:
        parts = (expectation, expectation.get("kwargs"), _meta(expectation)) if isinstance(expectation, dict) else ()
        if not parts or "type" not in expectation or not all(isinstance(part, dict) for part in parts):
            raise SuiteError(f"{file}: {expectation!r}: an expectation has type, kwargs and perhaps meta")
        on_failure(expectation)
    return suite


def _choices(contract: Contract | None) -> dict[str, Any]:
    """What a contract decides about the rules of all sources; `meta.only_if` and `$PARAMETER` name it."""
    amounts = contract.amounts if contract else Amounts()
    return {
        "amounts.minimum": amounts.minimum,
        "amounts.maximum": amounts.maximum,
        "columns.click": contract is None or "click" in contract.outcome_columns,
        "outcome.conversion_requires_click": contract is None or contract.outcome.conversion_requires_click,
    }


def _chosen(file: Path, expectations: list[Expectation], contract: Contract | None) -> list[Expectation]:
    """The expectations that the contract's choices leave, with values in place of Great Expectations' parameters."""
    choices = _choices(contract)

    def choice(name: str) -> Any:
        if name not in choices:
            raise SuiteError(f"{file}: {name!r} is no choice of a contract; allowed: {sorted(choices)}")
        return choices[name]

    def filled(value: Any) -> Any:
        return choice(value["$PARAMETER"]) if isinstance(value, dict) and "$PARAMETER" in value else value

    wanted = (each for each in expectations if "only_if" not in _meta(each) or choice(_meta(each)["only_if"]))
    rules = [each | {"kwargs": {name: filled(value) for name, value in each["kwargs"].items()}} for each in wanted]
    if contract and contract.is_of_outcomes:
        return [each for each in rules if (named := _columns_of(each)) and named <= {*contract.mapped}]
    if contract:
        for each in rules:
            _require_columns(file, each, contract)
            _require_types(file, each, contract)
    return rules


def _meta(expectation: Expectation) -> dict[str, Any]:
    return expectation.get("meta") or {}


def _columns_of(expectation: Expectation) -> set[str]:
    kwargs = expectation["kwargs"]
    named = {value for key, value in kwargs.items() if key in {"column", "column_A", "column_B"}}
    predicate = predicate_text(kwargs.get("unexpected_rows_query", ""))
    try:
        return named.union(names_in(predicate)) if predicate else named
    except ValueError as error:
        raise SuiteError(f"{expectation['type']}: {kwargs['unexpected_rows_query']!r}: {error}") from None


def _require_types(file: Path, expectation: Expectation, contract: Contract) -> None:
    """A comparison casts nothing: text is compared with text, and a number with numbers."""
    kwargs = expectation["kwargs"]
    predicate = predicate_text(kwargs.get("unexpected_rows_query", ""))
    if predicate and (error := binding_error(predicate, tuple(contract.column_types.items()))):
        raise SuiteError(f"{file}: {expectation['type']}: {predicate!r}: {error}")
    kind = contract.column_types.get(kwargs.get("column", ""))
    if kind is None or expectation["type"] not in _COMPARING:
        return
    values = [*kwargs.get("value_set", ()), kwargs.get("min_value"), kwargs.get("max_value")]
    wanted = (int, float) if kind in {"BIGINT", "DOUBLE"} else str
    if odd := [
        each for each in values if each is not None and (isinstance(each, bool) or not isinstance(each, wanted))
    ]:
        raise SuiteError(
            f"{file}: {expectation['type']}: {odd} are compared with {kwargs['column']}, which is {MEANINGS[kind]}:"
            f" write {'numbers' if wanted is not str else 'texts'}"
        )


def _require_columns(file: Path, expectation: Expectation, contract: Contract) -> None:
    if unknown := sorted(_columns_of(expectation) - {*contract.column_types}):
        raise SuiteError(
            f"{file}: {expectation['type']}: columns {unknown} are not of {contract.source};"
            f" allowed: {sorted(contract.column_types)}"
        )
