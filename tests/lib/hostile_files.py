"""Hypothesis strategies of landed files: valid ones in many layouts, and what damage makes of them."""

import bz2
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from lib.contracts import minimal_contract
from liftloop.contract.contract import Contract
from liftloop.contract.files import FileLayout

NAMES = ("id", "at", "slot", "ad", "clicked", "price")
_ROWS = st.lists(
    st.tuples(
        st.sampled_from(["1", "2", "101.0", ""]),
        st.sampled_from(["2026-07-01 12:00:00", "1767573000", "soon", ""]),
        st.sampled_from(["top", "", "two\nlines", "a\rb", '5" x', "a,b", "ü", "# no note"]),
        st.sampled_from(["a", "b|c", "[]", '["a","b"]', '{"t":1}', "[1,[2]]", "null"]),
        st.sampled_from(["0", "1", "2", "maybe", "1e300"]),
        st.sampled_from(["1.5", "1,5", "1.000,25", "x", "", "nan"]),
    ),
    max_size=6,
)
_SPLICES = [b'"', b"'", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80"]
_SPLICES += [b",", b";", b"\t", b"#", b"\\", b"{", b"}", b"[", b'""', b"\n\n", b"\x85", b"\x1a", b"x" * 70_000]
_DAMAGES: dict[str, Callable[[bytes, bytes], bytes]] = {  # of a short range of bytes, with what is spliced in
    "nothing": lambda found, _: found,
    "flip": lambda found, _: bytes(each ^ 0x10 for each in found[:1]) + found[1:],
    "insert": lambda found, splice: splice + found,
    "delete": lambda _found, _: b"",
    "duplicate": lambda found, _: found * 3,
    "replace": lambda _found, splice: splice,
}


@dataclass(frozen=True)
class Case:
    """A contract, and a file that is more or less as it says."""

    contract: Contract
    body: bytes


def _options(**values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=values)


_OF_ALL: dict[str, st.SearchStrategy[Any]] = {
    "null_values": st.just(("null", "x")),
    "decimal": st.just(","),
    "explode": st.sampled_from([{"separator": "|"}, {}, {"position": "nth"}]),
}
_OF_TEXT = _OF_ALL | {
    "encoding": st.sampled_from(["utf-16", "latin-1"]),
    "skip_rows": st.integers(1, 3),
    "comment": st.sampled_from(["#", '"', "{"]),
    "footer": st.integers(1, 3),
}
_OF_TABLES = _OF_TEXT | {
    "delimiter": st.sampled_from([";", "|", " ", "\\", "§", "1"]),
    "quote": st.sampled_from(["none", "'"]),
    "header": st.sampled_from(["none", NAMES]),
}
_OPTIONS = {"csv": _OF_TABLES, "tsv": _OF_TABLES, "jsonl": _OF_TEXT, "parquet": _OF_ALL}


@st.composite
def cases(draw: st.DrawFn, kind: str) -> Case:
    """Files of one format."""
    options = draw(_options(**_OPTIONS[kind]))
    names = [str(place) for place in range(1, 7)] if options.get("header") == "none" else list(NAMES)
    if "explode" in options:
        options["explode"] = options["explode"] | {"column": names[3]}
    contract = draw(_contracts(names, {"path": "{day}.log", "format": kind} | options))
    rows = draw(_ROWS)
    body = _parquet(rows) if kind == "parquet" else _text(rows, contract.landing, draw(_LINE_ENDS))
    damaged = draw(st.binary(max_size=40) | _damaged(body) | _damaged(body))
    packed = draw(st.sampled_from(_PACKERS))(damaged)
    return Case(contract, draw(_damaged(packed)) if packed != damaged and draw(st.booleans()) else packed)


_LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])


@st.composite
def _contracts(draw: st.DrawFn, names: list[str], landing: dict[str, Any]) -> Contract:
    identity, at, slot, ad, clicked, price = names
    columns = {
        "impression_id": draw(st.sampled_from([{"from": identity}, {"template": f"{{day}}-{{{identity}}}"}])),
        "event_timestamp": {
            "from": at,
            "time": draw(st.sampled_from(["text", "epoch_seconds", "yyyy-MM-dd HH:mm:ss"])),
        },
        "placement_id": draw(st.sampled_from([{"from": slot}, {"constant": "p"}])),
        "ad_id": {"from": ad},
        "click": draw(st.sampled_from([{"from": clicked}, {"sql": f'"{clicked}" + 1'}])),
        "revenue": draw(st.sampled_from([{"from": price, "scale": 0.01}, {"sql": f'"{price}" / "{clicked}"'}])),
    }
    keep = draw(st.sampled_from([None, f'"{clicked}" < 1', f"\"{slot}\" = 'top'", f'"{price}" > 1']))
    context = {"record": {"from": "row", "type": "integer"}}
    return minimal_contract(landing=landing, columns=columns, context=context, keep=keep)


def _text(rows: list[tuple[str, ...]], layout: FileLayout, line_end: str) -> bytes:
    if layout.format == "jsonl":
        lines = [json.dumps(dict(zip(NAMES, row, strict=True))) for row in rows]
    else:
        lines = [_line(row, layout) for row in ([NAMES] if layout.has_header else []) + rows]
    lines = ["preamble"] * layout.skip_rows + lines + ["total"] * layout.footer
    return line_end.join(lines).encode(layout.encoding, "replace")


def _line(row: tuple[str, ...], layout: FileLayout) -> str:
    separator, quote = layout.separator or "", layout.quote_character

    def spelled(value: str) -> str:
        if quote is None or not {*separator, quote, "\n", "\r"} & {*value}:
            return value
        return quote + value.replace(quote, quote * 2) + quote

    return separator.join(map(spelled, row))


def _parquet(rows: list[tuple[str, ...]]) -> bytes:
    target = io.BytesIO()
    pq.write_table(pa.table({name: [row[place] for row in rows] for place, name in enumerate(NAMES)}), target)
    return target.getvalue()


@st.composite
def _damaged(draw: st.DrawFn, body: bytes) -> bytes:
    for damage in draw(st.lists(st.sampled_from([*_DAMAGES]), max_size=4)):
        start = draw(st.integers(0, len(body)))
        stop = start + draw(st.integers(0, 12))
        body = body[:start] + _DAMAGES[damage](body[start:stop], draw(st.sampled_from(_SPLICES))) + body[stop:]
    return body[: draw(st.integers(0, len(body)))] if draw(st.integers(0, 9)) == 0 else body


def _zipped(body: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("log", body)
    return target.getvalue()


def _zstd(body: bytes) -> bytes:
    packed: bytes = pa.compress(body, codec="zstd", asbytes=True)
    return packed


_PACKERS: list[Callable[[bytes], bytes]] = [bytes, bytes, bytes, gzip.compress, bz2.compress, _zstd, _zipped]
