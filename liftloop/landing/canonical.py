"""Canonical values from landed ones, in SQL, as the contract's columns say."""

import re
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

import duckdb

from liftloop.contract.columns import Column
from liftloop.contract.contract import CANONICAL_TYPES, MEANINGS, Contract
from liftloop.contract.files import split_template
from liftloop.landing.expressions import bound
from liftloop.landing.rejection import FileRejectedError, summary_of
from liftloop.landing.rules import Rule
from liftloop.landing.values import Landed, identifier, identifiers, number, text, time, whole_number
from liftloop.storage.duckdb import literal, quoted

_READ_AS = MEANINGS | {"VARCHAR": "exact text"}
_IDS = {"event_id", *(name for name in CANONICAL_TYPES if name.endswith("_id"))}


@dataclass(frozen=True)
class CanonicalValue:
    """A canonical value in SQL: in its own type, and as landed, or whether its expression fails (None: not mapped)."""

    typed: str
    landed: str | None


@dataclass(frozen=True, eq=False)
class CanonicalRow:
    """The values of one row. `rows` is the FROM clause that has the landed values `available`."""

    connection: duckdb.DuckDBPyConnection
    contract: Contract
    available: dict[str, Landed]
    rows: str

    @cached_property
    def values(self) -> dict[str, CanonicalValue]:
        """By column."""
        return {name: self._value(name) for name in self.contract.column_types}

    def unreadable_rules(self) -> list[Rule]:
        """True for values that are landed and cannot be read."""
        return [self._unreadable_rule(name) for name, value in self.values.items() if value.landed]

    def expression(self, where: str, sql: str) -> tuple[Landed, str]:
        """A contract's expression, null where it fails, and a predicate that tells whether it does.

        Raises:
            FileRejectedError: it does not fit the types of the landed columns.
        """
        try:
            spelled = bound(self.connection, sql, self.available)
            kind = self.connection.execute(f"DESCRIBE SELECT {spelled} FROM {self.rows}").fetchall()[0][1]
        except duckdb.Error as error:
            hint = "text is read as a number by price::DOUBLE"
            raise FileRejectedError(f"{where}: {sql}: {summary_of(error)} ({hint})") from None
        layout = self.contract.landing if kind == "VARCHAR" else None
        return Landed(f"TRY({spelled})", kind, layout), f"TRY(({spelled}) IS NULL) IS NULL"

    def _unreadable_rule(self, name: str) -> Rule:
        column = self.contract.mapped[name]
        meaning = "a list of ids" if name == "eligible_ads" else _READ_AS[self.contract.column_types[name]]
        landed = quoted("landed " + name)
        if column.sql is not None:
            return Rule(f"{name} is {meaning}", f"{name} cannot be computed as {meaning}", landed)
        expected, reason = f"{name} is {meaning}", f"{name} cannot be read as {meaning}"
        return Rule(expected, reason, f"{landed} IS NOT NULL AND {quoted(name)} IS NULL")

    def _value(self, name: str) -> CanonicalValue:
        column = self.contract.mapped.get(name)
        if column is None:
            return CanonicalValue(self._default(name), None)
        if column.sql is None:
            landed = self._landed(column)
            return CanonicalValue(self._typed(name, column, landed), landed.sql)
        landed, fails = self.expression(name, column.sql)
        typed = self._typed(name, column, landed)
        return CanonicalValue(typed, f"{fails} OR ({landed.sql} IS NOT NULL AND {typed} IS NULL)")

    def _typed(self, name: str, column: Column, landed: Landed) -> str:
        match self.contract.column_types[name]:
            case "TIMESTAMPTZ" if name == "outcome_timestamp":  # none: there is no outcome by the horizon
                none = self._after_impression(self.contract.outcome.horizon)
                return f"CASE WHEN {landed.sql} IS NULL THEN {none} ELSE {time(landed.sql, column)} END"
            case "TIMESTAMPTZ":
                return time(landed.sql, column)
            case "BIGINT":
                return whole_number(landed.plain_number, column.scale)
            case "DOUBLE":
                typed = number(landed.plain_number, column.scale)
                return f"CASE WHEN isfinite({typed}) THEN {typed} END" if name in self.contract.context else typed
            case "VARCHAR" if name == "eligible_ads":
                return identifiers(landed.sql, landed.kind, column.separator)
        return identifier(landed.sql, landed.kind) if name in _IDS else text(landed.sql, landed.kind)

    def _default(self, name: str) -> str:
        """A missing outcome time is the impression's time plus the contract's delay; other missing columns are null."""
        if name == "outcome_timestamp":
            return self._after_impression(self.contract.outcome.delay)
        return f"NULL::{self.contract.column_types[name]}"

    def _after_impression(self, wait: timedelta) -> str:
        """The time at which an outcome without a logged time is known; null if outcomes are joined later."""
        if self.contract.outcome_files or self.contract.is_of_outcomes:
            return "NULL::TIMESTAMPTZ"
        return f"TRY({self._value('event_timestamp').typed} + to_seconds({wait.total_seconds()}))"

    def _landed(self, column: Column) -> Landed:
        if column.from_:
            return self.available[column.from_]
        if column.template:
            return Landed(self._filled(column.template), layout=self.contract.landing)
        if column.pick:
            return Landed(self._picked(column.pick), layout=self.contract.landing)
        return Landed(literal(column.constant), "VARCHAR" if isinstance(column.constant, str) else "BIGINT")

    def _filled(self, template: str) -> str:
        """Text with landed values in place of their names; null if one of them is null."""

        def spelled(name: str) -> str:
            landed = self.available[name]
            return f"({identifier(landed.sql, landed.kind)})"

        pieces = enumerate(split_template(template))
        return "(" + " || ".join(spelled(piece) if i % 2 else literal(piece) for i, piece in pieces if piece) + ")"

    def _picked(self, template: str) -> str:
        wanted = self._filled(template)
        pattern = "".join(".+" if i % 2 else re.escape(piece) for i, piece in enumerate(split_template(template)))
        choices = [
            f"WHEN {literal(name)} THEN {each.sql}::VARCHAR"
            for name, each in self.available.items()
            if re.fullmatch(pattern, name)
        ]
        return f"(CASE {wanted} {' '.join(choices)} END)" if choices else "NULL"
