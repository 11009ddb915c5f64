"""Parsing of one landed file by its contract: every row as a canonical impression, bad rows with reasons."""

import csv
import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from liftloop.contract.contract import Contract
from liftloop.contract.sections import Column, placeholders
from liftloop.landing.readers import FileRejectedError, create_view, drop_rejects, remove_unpacked
from liftloop.landing.rules import Rule, reasons_of
from liftloop.storage.duckdb import literal, quoted

_OFFSET_AT_END = r"\d:\d{2}(:\d{2}(\.\d+)?)? ?(Z|[+-]\d{2}(:?\d{2})?)$"  # after a time of day, not in a bare date
_MEANINGS = {"TIMESTAMPTZ": "a time", "DOUBLE": "a number", "BIGINT": "a whole number", "VARCHAR": "text"}
_FORMAT_RULES = {
    "jsonl": [Rule("a JSON object", "the line is not a JSON object", "NOT json_valid(landed_row.json_line)")]
}
_LONGEST_ERROR_CHARACTERS = 500
_UNREADABLE = (duckdb.Error, UnicodeError, csv.Error, zlib.error, EOFError, gzip.BadGzipFile, pa.ArrowException)


@dataclass(frozen=True)
class LandedFile:
    """A landed object on local disk, with the named parts of its key and its reference files."""

    object_id: str
    path: Path
    path_parts: dict[str, str]
    lookups: dict[str, Path]
    max_expanded_bytes: int


@dataclass(frozen=True)
class _Value:
    """A canonical value in SQL: in its own type, and as landed (None: not mapped)."""

    typed: str
    landed: str | None


def create_tables(connection: duckdb.DuckDBPyConnection, contract: Contract) -> None:
    """Create two empty tables: `impressions` for readable rows, and `unread` for unreadable lines."""
    columns = ", ".join(f"{quoted(name)} {kind}" for name, kind in contract.column_types.items())
    connection.execute(f"CREATE TABLE impressions (object_id VARCHAR, {columns}, reasons VARCHAR[], raw VARCHAR)")
    connection.execute("CREATE TABLE unread (object_id VARCHAR, line BIGINT, raw VARCHAR, reason VARCHAR)")


def parse(connection: duckdb.DuckDBPyConnection, contract: Contract, file: LandedFile, rules: list[Rule]) -> None:
    """Append one file's rows to `impressions` and `unread`: all of them or, after an error, none.

    Raises:
        FileRejectedError: the file cannot be read under the contract.
    """
    connection.execute("BEGIN")
    try:
        available = _open_landed(connection, contract, file)
        _require_columns(contract, available)
        _append_rows(connection, contract, available, file, rules)
        connection.execute("COMMIT")
    except FileRejectedError:
        connection.execute("ROLLBACK")
        raise
    except _UNREADABLE as error:
        connection.execute("ROLLBACK")
        shown = " ".join(str(error).split())[:_LONGEST_ERROR_CHARACTERS]
        raise FileRejectedError(f"not readable as {contract.landing.format}: {shown}") from None
    finally:
        for path in (file.path, *file.lookups.values()):
            remove_unpacked(path)


def _open_landed(connection: duckdb.DuckDBPyConnection, contract: Contract, file: LandedFile) -> dict[str, str]:
    """Create views of the file and its reference files; returns the SQL expression of each landed column."""
    landing = contract.landing
    limit = file.max_expanded_bytes
    columns = create_view(connection, "landed", file.path, landing.format, limit, landing.encoding)
    spelled = {name: f"landed.{quoted(name)}" for name in columns}
    for name, path in file.lookups.items():
        reference = create_view(connection, name, path, contract.lookups[name].format, limit)
        spelled |= {f"{name}.{column}": f"{quoted(name)}.{quoted(column)}" for column in reference}
    return spelled | {name: literal(value) for name, value in file.path_parts.items()}


def _require_columns(contract: Contract, available: dict[str, str]) -> None:
    needed = {name for column in _columns(contract).values() for name in _origins(column)}
    missing = sorted(needed - set(available))
    if missing:
        raise FileRejectedError(f"columns {missing} are missing; the file has {sorted(available)}")


def _columns(contract: Contract) -> dict[str, Column]:
    return {**contract.columns, **contract.context}


def _origins(column: Column) -> list[str]:
    if column.from_:
        return [column.from_]
    return placeholders(column.template or column.pick or "")


def _append_rows(
    connection: duckdb.DuckDBPyConnection,
    contract: Contract,
    available: dict[str, str],
    file: LandedFile,
    rules: list[Rule],
) -> None:
    values = {name: _value(name, contract, available) for name in contract.column_types}
    unreadable = [_unreadable_rule(name, contract) for name, value in values.items() if value.landed]
    checks = [*_FORMAT_RULES.get(contract.landing.format, ()), *unreadable, *rules]
    typed = ", ".join(f"{value.typed} AS {quoted(name)}" for name, value in values.items())
    landed = ", ".join(
        f"{value.landed} AS {quoted('landed ' + name)}" for name, value in values.items() if value.landed
    )
    connection.execute(f"""
        INSERT INTO impressions
        SELECT {literal(file.object_id)}, {", ".join(map(quoted, values))}, reasons,
            CASE WHEN len(reasons) > 0 THEN to_json(landed_row)::VARCHAR END
        FROM (SELECT *, {reasons_of(checks)} AS reasons
              FROM (SELECT {typed}, {landed}, landed AS landed_row FROM landed {_joins(contract, available)}))
    """)
    if contract.landing.format != "parquet":
        _write_unread_lines(connection, file.object_id)


def _joins(contract: Contract, available: dict[str, str]) -> str:
    joins = []
    for name, lookup in contract.lookups.items():
        keys = [f"{available[own]} = {quoted(name)}.{quoted(other)}" for own, other in lookup.match.items()]
        joins.append(f"LEFT JOIN {quoted(name)} ON {' AND '.join(keys)}")
    return " ".join(joins)


def _write_unread_lines(connection: duckdb.DuckDBPyConnection, object_id: str) -> None:
    connection.execute(f"""
        INSERT INTO unread
        SELECT {literal(object_id)}, line, any_value(csv_line), string_agg(DISTINCT lower(error_type::VARCHAR), ', ')
        FROM reject_errors GROUP BY line
    """)
    drop_rejects(connection)


def _unreadable_rule(name: str, contract: Contract) -> Rule:
    meaning = _MEANINGS[contract.column_types[name]]
    landed = quoted("landed " + name)
    expected, reason = f"{name} is {meaning}", f"{name} cannot be read as {meaning}"
    return Rule(expected, reason, f"{landed} IS NOT NULL AND {quoted(name)} IS NULL")


def _value(name: str, contract: Contract, available: dict[str, str]) -> _Value:
    column = _columns(contract).get(name)
    kind = contract.column_types[name]
    if column is None:
        return _Value(_default(name, contract, available), None)
    landed = _landed(column, available)
    if kind == "TIMESTAMPTZ":
        return _Value(_time(landed, column), landed)
    typed = f"TRY_CAST({landed} AS {kind})"
    if kind == "BIGINT":  # a cast alone would round 0.5
        typed = f"CASE WHEN TRY_CAST({landed} AS DOUBLE) = {typed} THEN {typed} END"
    return _Value(f"({typed} * {column.scale})" if column.scale else typed, landed)


def _default(name: str, contract: Contract, available: dict[str, str]) -> str:
    """A missing outcome time is the impression's time plus the contract's delay; other missing columns are null."""
    kind = contract.column_types[name]
    if name != "outcome_timestamp":
        return f"NULL::{kind}"
    event = _value("event_timestamp", contract, available).typed
    return f"TRY({event} + to_seconds({contract.outcome.delay.total_seconds()}))"


def _landed(column: Column, available: dict[str, str]) -> str:
    if column.from_:
        return available[column.from_]
    if column.template:
        return _filled(column.template, available)
    if column.pick:
        return _picked(column.pick, available)
    return literal(column.constant)


def _filled(template: str, available: dict[str, str]) -> str:
    """Text with landed values in place of their names; null if one of them is null."""
    pieces = re.split(r"{(\w+)}", template)
    spelled = [literal(piece) if i % 2 == 0 else f"{available[piece]}::VARCHAR" for i, piece in enumerate(pieces)]
    return "(" + " || ".join(part for part in spelled if part != "''") + ")"


def _picked(template: str, available: dict[str, str]) -> str:
    wanted = _filled(template, available)
    pattern = re.sub(r"\\{\w+\\}", ".+", re.escape(template))
    choices = [f"WHEN {literal(name)} THEN {sql}" for name, sql in available.items() if re.fullmatch(pattern, name)]
    return f"(CASE {wanted} {' '.join(choices)} END)" if choices else "NULL"


def _time(landed: str, column: Column) -> str:
    if column.time == "epoch_seconds":
        return f"TRY(to_timestamp(TRY_CAST({landed} AS DOUBLE)))"  # beyond year 290,000 it would raise
    if column.time == "epoch_milliseconds":
        return f"TRY(to_timestamp(TRY_CAST({landed} AS BIGINT) / 1000))"
    return (
        f"CASE WHEN regexp_matches({landed}::VARCHAR, '{_OFFSET_AT_END}') THEN TRY_CAST({landed} AS TIMESTAMPTZ)"
        f" ELSE TRY_CAST({landed} AS TIMESTAMP) AT TIME ZONE {literal(column.zone)} END"
    )
