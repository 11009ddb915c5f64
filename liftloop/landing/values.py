"""Landed values as canonical ones, in SQL: exactly, or null."""

import re
from dataclasses import dataclass

from liftloop.contract.columns import EPOCHS, Column
from liftloop.contract.files import FileLayout
from liftloop.storage.duckdb import literal

_EXACT = 2**53  # from here on, a float no longer tells neighbouring whole numbers apart
_EXACT_SINGLE = 2**24

# After a time of day: Z, an offset, or the name of a zone.
_ZONE = r"(?i)[T ]\d{1,2}:?\d{2}(:?\d{2}([.,]\d+)?)? *(z|[+-]\d{2}(:?\d{2}(:?\d{2})?)?|utc|gmt|[a-z]+/[a-z_/+-]+\d*)$"
_CASTABLE = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}(:\d{2})?)?)?"
_SPELLINGS = (  # of ISO 8601, as DuckDB reads them
    (r"^(\d{4})(\d{2})(\d{2})T(\d{2}):?(\d{2})", r"\1-\2-\3T\4:\5"),
    (r"^([^T ]+)[T ](\d{2})(\d{2})", r"\1T\2:\3"),
    (r"([T ]\d{1,2}:\d{2})(\d{2})", r"\1:\2"),
    (r",(\d+)", r".\1"),
    (r"([T ]\d{1,2}:\d{2})( *([a-zA-Z+-].*)?)$", r"\1:00\2"),
    (r" +([+-]\d)", r"\1"),
    (r"(?i) *(z|utc|gmt)$", "Z"),
)


@dataclass(frozen=True)
class Landed:
    """A landed value in SQL, its DuckDB type, and the layout of the file that has its text."""

    sql: str
    kind: str = "VARCHAR"
    layout: FileLayout | None = None

    @property
    def plain_number(self) -> str:
        """A number's text with a decimal point and without separators of thousands."""
        if self.layout is None or self.kind not in {"VARCHAR", "JSON"}:
            return self.sql
        decimal, thousands = self.layout.decimal, self.layout.thousands
        if decimal == "." and thousands is None:
            return self.sql
        written = f"{self.sql}::VARCHAR"
        point, group = re.escape(decimal), re.escape(thousands or "")
        grouped = f"([0-9]{{1,3}}({group}[0-9]{{3}})+|[0-9]+)" if thousands else "[0-9]+"
        is_number = f"regexp_full_match({written}, {literal(f'[+-]?{grouped}({point}[0-9]*)?([eE][+-]?[0-9]+)?')})"
        plain = f"replace({written}, {literal(thousands)}, '')" if thousands else written
        return f"CASE WHEN {is_number} THEN replace({plain}, {literal(decimal)}, '.') END"


def text(landed: str, kind: str) -> str:
    """Text as it was written; a whole float as a whole number, and null where a float cannot be exact."""
    if kind in {"DOUBLE", "FLOAT"}:
        limit = _EXACT if kind == "DOUBLE" else _EXACT_SINGLE
        whole = f"CASE WHEN abs({landed}) < {limit} THEN {landed}::BIGINT::VARCHAR END"
        return f"CASE WHEN {landed} = trunc({landed}) THEN {whole} ELSE {landed}::VARCHAR END"
    return f"{landed}::VARCHAR"


def identifier(landed: str, kind: str) -> str:
    """Text of an id: `101.0` is `101`; null for `1e19` and floats beyond 2^53, which are not exact."""
    written = text(landed, kind)
    if kind not in {"VARCHAR", "JSON"} and not kind.startswith("DECIMAL"):
        return written
    whole = f"regexp_extract({written}, '^(-?[0-9]+)[.]0+$', 1)"
    may_be_float = " OR ".join(f"contains({written}, '{mark}')" for mark in ".eE")  # cheap, and true for few
    return (
        f"CASE WHEN NOT ({may_be_float}) THEN {written}"
        f" WHEN regexp_full_match({written}, '-?[0-9]([.][0-9]+)?[eE][+]?[0-9]{{1,3}}') THEN NULL"
        f" WHEN {whole} = '' THEN {written} WHEN abs(TRY_CAST({whole} AS HUGEINT)) < {_EXACT} THEN {whole} END"
    )


def list_elements(landed: str, kind: str, separator: str | None) -> str:
    """A list in SQL; the elements of JSON are text."""
    if separator is not None:
        ended = f"rtrim({landed}::VARCHAR, {literal(separator)})"  # no element follows the last separator
        split = f"string_split({ended}, {literal(separator)})"
        return f"CASE WHEN {ended} <> '' THEN list_transform({split}, lambda part: nullif(part, '')) END"
    if kind.endswith("[]"):
        return landed
    is_list = f"json_valid({landed}) AND json_type({landed}::JSON) = 'ARRAY'"
    texts = f"list_transform(from_json({landed}, '[\"JSON\"]'), lambda part: part ->> '$')"
    return f"CASE WHEN {is_list} THEN {texts} WHEN {landed} IS NOT NULL THEN [{landed}] END"


def identifiers(landed: str, kind: str, separator: str | None) -> str:
    """A JSON list of ids, sorted and each once; null where one of them is missing or not exact."""
    is_typed = separator is None and kind.endswith("[]")
    each = identifier("each", kind.removesuffix("[]") if is_typed else "VARCHAR")
    ids = f"list_transform({list_elements(landed, kind, separator)}, lambda each: {each})"
    return f"CASE WHEN len({ids}) = list_count({ids}) THEN to_json(list_sort(list_distinct({ids})))::VARCHAR END"


def number(landed: str, scale: float | None) -> str:
    """A finite number."""
    typed = f"TRY_CAST({landed} AS DOUBLE)"
    return _scaled(typed, scale) if scale else typed


def _scaled(number: str, scale: float) -> str:
    """Multiplied, or divided by the whole number that 0.01 stands for, which gives the nearest float."""
    divisor = round(1 / scale)
    is_exact = abs(scale) < 1 and abs(divisor * scale - 1) < 1e-12
    return f"({number} / {divisor})" if is_exact else f"({number} * {scale})"


def whole_number(landed: str, scale: float | None) -> str:
    """A whole number; null where a cast would round. True and false are 1 and 0."""
    if scale:
        scaled = _scaled(f"TRY_CAST({landed} AS DOUBLE)", scale)
        is_whole = f"abs({scaled} - round({scaled})) <= 1e-6"
        return f"CASE WHEN {is_whole} AND abs({scaled}) < {_EXACT} THEN round({scaled})::BIGINT END"
    written = f"{landed}::VARCHAR"
    typed = f"TRY_CAST({landed} AS BIGINT)"
    return (
        f"CASE WHEN abs(TRY_CAST({landed} AS DOUBLE)) < {_EXACT}"
        f" THEN CASE WHEN TRY_CAST({landed} AS DOUBLE) = {typed} THEN {typed} END"
        f" WHEN regexp_full_match({written}, '[+-]?[0-9]+') THEN {typed}"
        f" WHEN lower({written}) IN ('true', 'false') THEN (lower({written}) = 'true')::BIGINT END"
    )


def time(landed: str, column: Column) -> str:
    """A moment, by the column's pattern, its epoch, or as ISO 8601; a zone in the text wins over the column's."""
    zone = literal(column.zone)
    if column.time in EPOCHS:
        since = f"TIMESTAMPTZ {literal(column.since.isoformat())}"
        return f"TRY({since} + to_microseconds({_microseconds(landed, EPOCHS[column.time])}))"
    if column.time != "text":
        pattern, has_offset = literal(column.strptime_format), "%z" in column.strptime_format
        written = f"{landed}::VARCHAR"
        if has_offset:  # which DuckDB reads without a Z for UTC
            written = f"regexp_replace({written}, '[Zz]$', '+00:00')"
        parsed = f"try_strptime({written}, {pattern})"
        return parsed if has_offset else f"{parsed} AT TIME ZONE {zone}"
    written = f"trim({landed}::VARCHAR)"
    spelled = written
    for pattern, replacement in _SPELLINGS:
        spelled = f"regexp_replace({spelled}, {literal(pattern)}, {literal(replacement)})"
    iso = f"CASE WHEN regexp_full_match({written}, {literal(_CASTABLE)}) THEN {written} ELSE {spelled} END"
    return (
        f"CASE WHEN regexp_matches({written}, {literal(_ZONE)}) THEN TRY_CAST({iso} AS TIMESTAMPTZ)"
        f" ELSE TRY_CAST({iso} AS TIMESTAMP) AT TIME ZONE {zone} END"
    )


def _microseconds(landed: str, factor: str) -> str:
    """A number in another unit, exact to six decimals; the last way reads any, but takes far longer."""
    is_whole = f"regexp_full_match({landed}::VARCHAR, '[+-]?[0-9]+')"
    ways = (
        f"CASE WHEN {is_whole} THEN TRY_CAST({landed} AS BIGINT) END",
        f"TRY_CAST({landed} AS DECIMAL(18, 6))",
        f"TRY_CAST({landed} AS DECIMAL(28, 6))",
    )
    return f"coalesce({', '.join(f'TRY(round(({way}) * {factor})::BIGINT)' for way in ways)})"


def json_path(root: str, path: str) -> str:
    """The text at a path, such as `[0].tagid`, of a value that is JSON."""
    steps = re.findall(r"\[(\d+)\]|\.?([^.\[\]]+)", path)
    spelled = "$" + "".join(f"[{index}]" if index else f'."{name}"' for index, name in steps)
    return f"({root} ->> {literal(spelled)})"
