"""Parsing of one landed file by its contract: every row as a canonical impression, bad rows with reasons."""

import csv
import lzma
import re
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile

import duckdb
import pyarrow as pa

from liftloop.contract.contract import Contract
from liftloop.contract.files import FileLayout, Landing
from liftloop.landing.canonical import CanonicalRow
from liftloop.landing.explode import explode_view
from liftloop.landing.framing import Frames
from liftloop.landing.lookups import joins, kinds_of, open_lookup, view_of
from liftloop.landing.readers import create_view, drop_rejects
from liftloop.landing.rejection import FileRejectedError, is_shortage, summary_of
from liftloop.landing.rules import Rule, reasons_of
from liftloop.landing.values import Landed, json_path
from liftloop.storage.duckdb import literal, quoted

_NO_OBJECT = "CASE WHEN json_valid(landed_row.json_line) THEN json_type(landed_row.json_line) <> 'OBJECT' ELSE true END"
_IS_JSON = Rule("a JSON object", "the line is not a JSON object", _NO_OBJECT)
_RECORDS = "landed records"  # with a blank, which no reference file's name has
_KEEP_IS_COMPUTED = Rule("keep can be computed", "keep cannot be computed", '"keep fails"')
_UNREADABLE = (
    *(duckdb.Error, UnicodeError, csv.Error, EOFError, OSError, pa.ArrowException),
    *(zlib.error, lzma.LZMAError, BadZipFile),
)
_ROOT = re.compile(r"([^.\[\]]+)([.\[].*)")


@dataclass(frozen=True)
class LandedFile:
    """A landed object on local disk, with its key below the source's prefix, the parts of that, and reference files."""

    object_id: str
    relative_key: str
    path: Path
    path_parts: dict[str, str]
    lookups: dict[str, Path]
    max_expanded_bytes: int


def create_tables(connection: duckdb.DuckDBPyConnection, contract: Contract) -> None:
    """Create two empty tables: `impressions` for readable rows, and `unread` for unreadable lines."""
    columns = ", ".join(f"{quoted(name)} {kind}" for name, kind in contract.column_types.items())
    connection.execute(f"CREATE TABLE impressions (object_id VARCHAR, {columns}, reasons VARCHAR[], raw VARCHAR)")
    connection.execute("CREATE TABLE unread (object_id VARCHAR, line BIGINT, raw VARCHAR, reason VARCHAR)")


def parse(connection: duckdb.DuckDBPyConnection, contract: Contract, file: LandedFile, rules: list[Rule]) -> int:
    """Append one file's rows to `impressions` and `unread`: all of them or, after an error, none.

    Returns the number of rows that the contract's `keep` leaves out.

    Raises:
        FileRejectedError: the file cannot be read under the contract.
    """
    connection.execute("BEGIN")
    try:
        with TemporaryDirectory(dir=file.path.parent) as folder:
            left_out = _parse(connection, contract, file, rules, Path(folder))
        connection.execute("COMMIT")
        return left_out
    except FileRejectedError:
        connection.execute("ROLLBACK")
        raise
    except _UNREADABLE as error:
        connection.execute("ROLLBACK")
        if is_shortage(error):
            raise
        local_path = rf"""['"]?{re.escape(str(file.path.parent))}[^\s'"]*['"]?"""
        shown = re.sub(local_path, "the file", summary_of(error))
        raise FileRejectedError(f"not readable as {contract.landing.format}: {shown}") from None


def _parse(
    connection: duckdb.DuckDBPyConnection, contract: Contract, file: LandedFile, rules: list[Rule], folder: Path
) -> int:
    if contract.has_expressions:  # DuckDB takes what expressions share out of TRY, so that one bad row ends the query
        connection.execute("SET disabled_optimizers = 'common_subexpressions'")
    limit = file.max_expanded_bytes
    explode = contract.landing.explode
    view = _RECORDS if explode else "landed"
    roots = sorted({re.split(r"[.\[]", name)[0] for name in contract.landed_names} | contract.landed_names)
    frames = create_view(connection, view, file.path, contract.landing, limit, _subfolder(folder, "landed"), roots)
    longer = explode_view(connection, "landed", view, explode, contract.landing.format, limit) if explode else 0
    for name, path in file.lookups.items():
        open_lookup(connection, name, contract.lookups[name], path, limit, _subfolder(folder, name))
    rows = _append_rows(connection, contract, _available(connection, contract, file), file, rules)
    if frames:
        _account(connection, file.object_id, frames, rows - longer)
    return delete_rows(connection, file.object_id, "reasons IS NULL")


def delete_rows(connection: duckdb.DuckDBPyConnection, object_id: str, predicate: str) -> int:
    """Delete an object's rows for which the predicate is true; returns their number."""
    deleted = f"DELETE FROM impressions WHERE object_id = $1 AND ({predicate})"
    row = connection.execute(deleted, [object_id]).fetchone()
    return row[0] if row else 0


def _subfolder(folder: Path, name: str) -> Path:
    path = folder / name
    path.mkdir()
    return path


def _available(connection: duckdb.DuckDBPyConnection, contract: Contract, file: LandedFile) -> dict[str, Landed]:
    """Every landed value that the contract may name, null where its text stands for none.

    Raises:
        FileRejectedError: one that it names is missing.
    """
    columns = dict[str, Landed]()
    views: list[tuple[str, str, FileLayout]] = [("landed", "", contract.landing)]
    views += [(view_of(name), f"{name}.", contract.lookups[name]) for name in file.lookups]
    for view, prefix, layout in views:
        for name, kind in kinds_of(connection, view).items():
            columns[f"{prefix}{name}"] = _known(Landed(f"{quoted(view)}.{quoted(name)}", kind, layout), layout)
    needed = contract.landed_names
    if clash := sorted({*file.path_parts} & {*columns} & needed):
        raise FileRejectedError(f"the parts {clash} of landing.path are also columns of the file: rename the parts")
    built_in = {"row": Landed('landed."landed number"', "BIGINT"), "file": Landed(literal(file.relative_key))}
    found = built_in | columns
    found |= {name: _known(Landed(literal(value)), contract.landing) for name, value in file.path_parts.items()}
    nested = {name: value for name in needed - set(found) if (value := _nested(name, found, contract.landing))}
    found |= {name: _known(value, contract.landing) for name, value in nested.items()}
    if missing := sorted(needed - set(found)):
        raise FileRejectedError(f"columns {missing} are missing; the file has {sorted(found)}")
    return found


def _known(landed: Landed, layout: FileLayout) -> Landed:
    """The value; null where the layout says that its text stands for none."""
    if not layout.null_values:
        return landed
    texts = ", ".join(map(literal, layout.null_values))
    return replace(landed, sql=f"CASE WHEN {landed.sql}::VARCHAR NOT IN ({texts}) THEN {landed.sql} END")


def _nested(name: str, found: dict[str, Landed], layout: Landing) -> Landed | None:
    """The value at a path into a JSON or nested column, such as `imp[0].tagid`."""
    match = _ROOT.fullmatch(name)
    root = match and found.get(match[1])
    if not match or not root:
        return None
    if layout.format == "jsonl" or (layout.explode and layout.explode.column == match[1]):
        text = f"{root.sql}::VARCHAR"
        return Landed(json_path(f"CASE WHEN json_valid({text}) THEN {text} END", match[2]))
    is_nested = root.kind.endswith("]") or root.kind.startswith(("STRUCT", "MAP", "JSON"))
    return Landed(json_path(f"to_json({root.sql})", match[2])) if is_nested else None


def _append_rows(
    connection: duckdb.DuckDBPyConnection,
    contract: Contract,
    available: dict[str, Landed],
    file: LandedFile,
    rules: list[Rule],
) -> int:
    """Append the readable rows; returns their number. Rows that `keep` leaves out have null for reasons."""
    rows = f"{_numbered(contract)} {joins(contract, available)}"
    row = CanonicalRow(connection, contract, available, rows)
    kept, keep_fails = row.expression("keep", contract.keep) if contract.keep else (Landed("true"), "false")
    of_line = [_IS_JSON] * (contract.landing.format == "jsonl") + [_KEEP_IS_COMPUTED] * bool(contract.keep)
    checks = [*of_line, *row.unreadable_rules(), *rules]
    is_line = " AND ".join(f"NOT ({rule.violation})" for rule in of_line) or "true"
    typed = ", ".join(f"{value.typed} AS {quoted(name)}" for name, value in row.values.items())
    landed = ", ".join(
        f"{value.landed} AS {quoted('landed ' + name)}" for name, value in row.values.items() if value.landed
    )
    appended = connection.execute(f"""
        INSERT INTO impressions
        SELECT {literal(file.object_id)}, {", ".join(map(quoted, row.values))}, reasons,
            CASE WHEN len(reasons) > 0 OR {bool(contract.outcome_files)} THEN to_json(landed_row)::VARCHAR END
        FROM (SELECT *, CASE WHEN "is kept" OR NOT ({is_line}) THEN {reasons_of(checks)} END AS reasons
              FROM (SELECT {typed}, {landed}, coalesce({kept.sql}, false) AS "is kept", {keep_fails} AS "keep fails",
                           landed AS landed_row FROM {rows}))
    """).fetchone()
    return appended[0] if appended else 0


def _numbered(contract: Contract) -> str:
    """The landed rows; with their numbers, if the contract names those."""
    if "row" not in contract.landed_names or contract.landing.explode:  # which numbers records
        return "landed"
    return '(SELECT *, row_number() OVER () AS "landed number" FROM landed) AS landed'


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
