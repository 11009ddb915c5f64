"""Parsing of one landed file by its contract: every row as a canonical impression, bad rows with reasons."""

import csv
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile

import duckdb
import pyarrow as pa

from liftloop.contract.columns import Column
from liftloop.contract.contract import CANONICAL_TYPES, MEANINGS, Contract
from liftloop.contract.files import FileLayout, Lookup, split_template
from liftloop.landing.framing import Frames
from liftloop.landing.readers import create_view, drop_rejects
from liftloop.landing.rejection import FileRejectedError
from liftloop.landing.rules import Rule, reasons_of
from liftloop.landing.values import identifier, json_path, number, plain_number, text, time, whole_number
from liftloop.storage.duckdb import literal, quoted

_FORMAT_RULES = {
    "jsonl": [Rule("a JSON object", "the line is not a JSON object", "NOT json_valid(landed_row.json_line)")]
}
_READ_AS = MEANINGS | {"VARCHAR": "exact text"}
_LONGEST_ERROR_CHARACTERS = 500
_UNREADABLE = (duckdb.Error, UnicodeError, csv.Error, zlib.error, EOFError, OSError, BadZipFile, pa.ArrowException)
_ROOT = re.compile(r"([^.\[\]]+)([.\[].*)")
_IDS = {name for name in CANONICAL_TYPES if name.endswith("_id")}


@dataclass(frozen=True)
class LandedFile:
    """A landed object on local disk, with its key below the source's prefix, the parts of that, and reference files."""

    object_id: str
    relative_key: str
    path: Path
    path_parts: dict[str, str]
    lookups: dict[str, Path]
    max_expanded_bytes: int


@dataclass(frozen=True)
class _Landed:
    """A landed value in SQL, and its DuckDB type."""

    sql: str
    kind: str = "VARCHAR"


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
        with TemporaryDirectory(dir=file.path.parent) as folder:
            _parse(connection, contract, file, rules, Path(folder))
        connection.execute("COMMIT")
    except FileRejectedError:
        connection.execute("ROLLBACK")
        raise
    except _UNREADABLE as error:
        connection.execute("ROLLBACK")
        shown = " ".join(str(error).split())[:_LONGEST_ERROR_CHARACTERS]
        raise FileRejectedError(f"not readable as {contract.landing.format}: {shown}") from None


def _parse(
    connection: duckdb.DuckDBPyConnection, contract: Contract, file: LandedFile, rules: list[Rule], folder: Path
) -> None:
    limit = file.max_expanded_bytes
    frames = create_view(connection, "landed", file.path, contract.landing, limit, _subfolder(folder, "landed"))
    for name, path in file.lookups.items():
        _open_lookup(connection, name, contract.lookups[name], path, limit, _subfolder(folder, name))
    rows = _append_rows(connection, contract, _available(connection, contract, file), file, rules)
    if frames:
        _account(connection, file.object_id, frames, rows)


def _subfolder(folder: Path, name: str) -> Path:
    path = folder / name
    path.mkdir()
    return path


def _open_lookup(
    connection: duckdb.DuckDBPyConnection, name: str, lookup: Lookup, path: Path, limit: int, folder: Path
) -> None:
    """Create a view of a reference file.

    Raises:
        FileRejectedError: a key is missing or appears twice, or a line cannot be read.
    """
    frames = create_view(connection, name, path, lookup, limit, folder)
    kinds = _kinds(connection, name)
    if missing := sorted({*lookup.match.values()} - {*kinds}):
        raise FileRejectedError(f"columns {missing} of {name} are missing; it has {sorted(kinds)}")
    keys = ", ".join(identifier(quoted(column), kinds[column]) for column in lookup.match.values())
    counted = connection.execute(f"SELECT {keys}, count(*) FROM {quoted(name)} GROUP BY ALL").fetchall()
    if twice := sorted(str(key) for *key, times in counted if times > 1):
        raise FileRejectedError(f"{name} has {list(lookup.match.values())} = {twice[0]} more than once")
    rows = sum(times for *_, times in counted)
    drop_rejects(connection)
    if frames and (frames.unreadable or rows != frames.count):
        raise FileRejectedError(f"{name} has lines that cannot be read: correct the reference file and land it again")


def _kinds(connection: duckdb.DuckDBPyConnection, view: str) -> dict[str, str]:
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE {quoted(view)}").fetchall()}


def _available(connection: duckdb.DuckDBPyConnection, contract: Contract, file: LandedFile) -> dict[str, _Landed]:
    """Every landed value that the contract may name.

    Raises:
        FileRejectedError: one that it names is missing.
    """
    found = {"row": _Landed("landed.landed_number", "BIGINT"), "file": _Landed(literal(file.relative_key))}
    for view in ("landed", *file.lookups):
        prefix = "" if view == "landed" else f"{view}."
        kinds = _kinds(connection, view)
        found |= {f"{prefix}{name}": _Landed(f"{quoted(view)}.{quoted(name)}", kind) for name, kind in kinds.items()}
    found |= {name: _Landed(literal(value)) for name, value in file.path_parts.items()}
    needed = {name for column in contract.mapped.values() for name in column.origins}
    found |= {name: value for name in needed - set(found) if (value := _nested(name, found))}
    if missing := sorted(needed - set(found)):
        raise FileRejectedError(f"columns {missing} are missing; the file has {sorted(found)}")
    return found


def _nested(name: str, found: dict[str, _Landed]) -> _Landed | None:
    """The value at a path into a JSON or nested column, such as `imp[0].tagid`."""
    match = _ROOT.fullmatch(name)
    root = match and found.get(match[1])
    if not match or not root:
        return None
    if "json_line" in found:
        line = "CASE WHEN json_valid(landed.json_line) THEN landed.json_line END"
        return _Landed(json_path(line, name))
    is_nested = root.kind.endswith("]") or root.kind.startswith(("STRUCT", "MAP", "JSON"))
    return _Landed(json_path(f"to_json({root.sql})", match[2])) if is_nested else None


def _append_rows(
    connection: duckdb.DuckDBPyConnection,
    contract: Contract,
    available: dict[str, _Landed],
    file: LandedFile,
    rules: list[Rule],
) -> int:
    """Append the readable rows; returns their number."""
    values = {name: _value(name, contract, available) for name in contract.column_types}
    unreadable = [_unreadable_rule(name, contract) for name, value in values.items() if value.landed]
    checks = [*_FORMAT_RULES.get(contract.landing.format, ()), *unreadable, *rules]
    typed = ", ".join(f"{value.typed} AS {quoted(name)}" for name, value in values.items())
    landed = ", ".join(
        f"{value.landed} AS {quoted('landed ' + name)}" for name, value in values.items() if value.landed
    )
    numbered = "(SELECT *, row_number() OVER () AS landed_number FROM landed) AS landed"
    uses_number = any("row" in column.origins for column in contract.mapped.values())
    appended = connection.execute(f"""
        INSERT INTO impressions
        SELECT {literal(file.object_id)}, {", ".join(map(quoted, values))}, reasons,
            CASE WHEN len(reasons) > 0 THEN to_json(landed_row)::VARCHAR END
        FROM (SELECT *, {reasons_of(checks)} AS reasons
              FROM (SELECT {typed}, {landed}, landed AS landed_row
                    FROM {numbered if uses_number else "landed"} {_joins(contract, available)}))
    """).fetchone()
    return appended[0] if appended else 0


def _joins(contract: Contract, available: dict[str, _Landed]) -> str:
    """Keys are compared as text, so that no cast makes `007` equal to 7."""
    joins = []
    for name, lookup in contract.lookups.items():
        pairs = [(available[own], available[f"{name}.{other}"]) for own, other in lookup.match.items()]
        keys = [" = ".join(identifier(side.sql, side.kind) for side in pair) for pair in pairs]
        joins.append(f"LEFT JOIN {quoted(name)} ON {' AND '.join(keys)}")
    return " ".join(joins)


def _account(connection: duckdb.DuckDBPyConnection, object_id: str, frames: Frames, rows: int) -> None:
    """Append every line that is in no row to `unread`.

    Raises:
        FileRejectedError: records are neither in rows nor among the rejected lines.
    """
    rejected = connection.execute(
        "SELECT line, any_value(csv_line), string_agg(DISTINCT lower(error_type::VARCHAR), ', ')"
        " FROM reject_errors GROUP BY line ORDER BY line"
    ).fetchall()
    drop_rejects(connection)
    if lost := frames.count - rows - len(rejected):
        raise FileRejectedError(f"{abs(lost)} of its {frames.count} records are unaccounted for: it is rejected whole")
    unread = [(frames.line_of(line - 1), raw, reason) for line, raw, reason in rejected]
    unread += [(each.line, each.raw, each.reason) for each in frames.unreadable]
    if unread:
        lines, raws, reasons = map(list, zip(*unread, strict=True))
        connection.execute(
            "INSERT INTO unread SELECT $1, unnest($2::BIGINT[]), unnest($3::VARCHAR[]), unnest($4::VARCHAR[])",
            [object_id, lines, raws, reasons],
        )


def _unreadable_rule(name: str, contract: Contract) -> Rule:
    meaning = _READ_AS[contract.column_types[name]]
    landed = quoted("landed " + name)
    expected, reason = f"{name} is {meaning}", f"{name} cannot be read as {meaning}"
    return Rule(expected, reason, f"{landed} IS NOT NULL AND {quoted(name)} IS NULL")


def _value(name: str, contract: Contract, available: dict[str, _Landed]) -> _Value:
    column = contract.mapped.get(name)
    kind = contract.column_types[name]
    if column is None:
        return _Value(_default(name, contract, available), None)
    landed = _landed(column, available, contract.landing)
    match kind:
        case "TIMESTAMPTZ":
            typed = time(landed.sql, column)
        case "BIGINT":
            typed = whole_number(plain_number(landed.sql, contract.landing), column.scale)
        case "DOUBLE":
            typed = number(plain_number(landed.sql, contract.landing), column.scale)
        case _:
            typed = identifier(landed.sql, landed.kind) if name in _IDS else text(landed.sql, landed.kind)
    return _Value(typed, landed.sql)


def _default(name: str, contract: Contract, available: dict[str, _Landed]) -> str:
    """A missing outcome time is the impression's time plus the contract's delay; other missing columns are null."""
    kind = contract.column_types[name]
    if name != "outcome_timestamp":
        return f"NULL::{kind}"
    event = _value("event_timestamp", contract, available).typed
    return f"TRY({event} + to_seconds({contract.outcome.delay.total_seconds()}))"


def _landed(column: Column, available: dict[str, _Landed], layout: FileLayout) -> _Landed:
    if column.from_:
        return _known(available[column.from_], layout)
    if column.template:
        return _Landed(_filled(column.template, available, layout))
    if column.pick:
        return _Landed(_picked(column.pick, available, layout))
    return _Landed(literal(column.constant), "VARCHAR" if isinstance(column.constant, str) else "BIGINT")


def _known(landed: _Landed, layout: FileLayout) -> _Landed:
    """The value; null where the contract says that its text stands for none."""
    if not layout.null_values:
        return landed
    texts = ", ".join(map(literal, layout.null_values))
    return _Landed(f"CASE WHEN {landed.sql}::VARCHAR NOT IN ({texts}) THEN {landed.sql} END", landed.kind)


def _filled(template: str, available: dict[str, _Landed], layout: FileLayout) -> str:
    """Text with landed values in place of their names; null if one of them is null."""

    def spelled(name: str) -> str:
        landed = _known(available[name], layout)
        return f"({identifier(landed.sql, landed.kind)})"

    pieces = enumerate(split_template(template))
    return "(" + " || ".join(spelled(piece) if i % 2 else literal(piece) for i, piece in pieces if piece) + ")"


def _picked(template: str, available: dict[str, _Landed], layout: FileLayout) -> str:
    wanted = _filled(template, available, layout)
    pattern = "".join(".+" if i % 2 else re.escape(piece) for i, piece in enumerate(split_template(template)))
    choices = [
        f"WHEN {literal(name)} THEN {_known(each, layout).sql}::VARCHAR"
        for name, each in available.items()
        if re.fullmatch(pattern, name)
    ]
    return f"(CASE {wanted} {' '.join(choices)} END)" if choices else "NULL"
