"""Broken files and rows of every kind, landed side by side: each ends as its line says, and none stops another.

A case says how many rows reach the lake, and why the others do not: by row, or for the file as a whole.
"""

import gzip
import io
import json
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lib.contracts import minimal_contract

from liftloop.contract.contract import Contract
from liftloop.contract.files import FileFormat
from liftloop.lake.lake import Lake
from liftloop.lake.ledger import Entry
from liftloop.landing.ingest import ingest_batch, pending_batches
from liftloop.settings import Settings
from liftloop.storage.duckdb import connect
from liftloop.storage.keys import impressions_prefix, landing_prefix
from liftloop.storage.store import Store

ROW: dict[str, Any] = {
    "id": "1",
    "at": "2026-01-05 12:00:00",
    "slot": "top",
    "ad": "a",
    "clicked": "1",
    "bought": "0",
    "cents": "150",
    "prob": "0.5",
    "then": "2026-01-05 12:01:00",
}
SECOND = ROW | {"id": "2"}
MAX_EXPANDED_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Case:
    """A file that lands, and what becomes of it."""

    name: str
    body: bytes = field(repr=False)
    good: int = 0
    bad: int = 0
    reason: str = ""  # one that the bad rows bear
    rejected: str | None = None  # words of the error, where the whole file goes to quarantine


def as_csv(*rows: dict[str, Any], separator: str = ",", end: str = "\n") -> bytes:
    lines = [[*ROW], *(map(str, row.values()) for row in rows)]
    return "".join(separator.join(line) + end for line in lines).encode()


def as_jsonl(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_parquet(*rows: dict[str, Any], times: int = 1) -> bytes:
    sink = io.BytesIO()
    table = pa.Table.from_pylist([*rows])
    pq.write_table(table.take(np.repeat(np.arange(len(rows)), times)), sink)
    return sink.getvalue()


def one_bad(name: str, reason: str, **changes: Any) -> Case:
    """A good row, and one that is changed."""
    return Case(name, as_csv(ROW, SECOND | changes), good=1, bad=1, reason=reason)


def second_line(name: str, line: bytes, reason: str = "") -> Case:
    """A good row, and a line as it is; without a reason it is good too."""
    return Case(name, as_csv(ROW) + line + b"\n", good=1 if reason else 2, bad=1 if reason else 0, reason=reason)


CSV_ROWS = [
    one_bad("negative money", "revenue is outside [0, 1000000]", cents="-1"),
    one_bad("huge money", "revenue is outside [0, 1000000]", cents="1e300"),
    one_bad("money not a number", "revenue is outside [0, 1000000]", cents="NaN"),
    one_bad("infinite money", "revenue is outside [0, 1000000]", cents="inf"),
    one_bad("money with a comma", "revenue cannot be read as a number", cents='"1,50"'),
    one_bad("money with its currency", "revenue cannot be read as a number", cents="€150"),
    one_bad("propensity of zero", "propensity is outside (0, 1]", prob="0"),
    one_bad("propensity above one", "propensity is outside (0, 1]", prob="1.0001"),
    one_bad("negative propensity", "propensity is outside (0, 1]", prob="-0.5"),
    one_bad("click without impression", "impression_id is missing", id=""),
    one_bad("blank slot", "ids begin with a visible character", slot="   "),
    one_bad("blank before an id", "ids begin with a visible character", ad="\ta"),
    one_bad("no slot", "placement_id is missing", slot=""),
    one_bad("no click", "click is missing", clicked=""),
    one_bad("click overflows", "click cannot be read as a whole number", clicked="9223372036854775808"),
    one_bad("two clicks", "click is not one of 0, 1", clicked="2"),
    one_bad("half a click", "click cannot be read as a whole number", clicked="0.5"),
    one_bad("click in words", "click cannot be read as a whole number", clicked="yes"),
    Case("click as a boolean", as_csv(ROW, SECOND | {"clicked": "true"}), good=2),
    one_bad("conversion without click", "click < conversion", clicked="0", bought="1"),
    one_bad("outcome before event", "outcome_timestamp < event_timestamp", then="2026-01-05 11:59:59"),
    one_bad("future event", "breaks the rule: event_timestamp is not in the future", at="2200-01-01 00:00:00"),
    one_bad("year 9999", "breaks the rule: event_timestamp is not in the future", at="9999-12-31 23:59:59"),
    one_bad("year 1", "breaks the rule: event_timestamp is not before the year 2000", at="0001-01-01 00:00:00"),
    one_bad("year 10000", "event_timestamp is not in the future", at="10000-01-01 00:00:00"),
    one_bad("infinite time", "event_timestamp is not in the future", at="infinity"),
    one_bad("epoch where text belongs", "event_timestamp cannot be read as a time", at="1767614400"),
    one_bad("epoch milliseconds", "event_timestamp cannot be read as a time", at="1767614400000"),
    one_bad("day that does not exist", "event_timestamp cannot be read as a time", at="2026-02-30 00:00:00"),
    one_bad("month first", "event_timestamp cannot be read as a time", at="01/15/2026 12:00"),
    one_bad("hour 25", "event_timestamp cannot be read as a time", at="2026-01-05 25:00:00"),
    one_bad("leap second", "event_timestamp cannot be read as a time", at="2016-12-31 23:59:60"),
    Case("hour that does not exist", as_csv(ROW | dict.fromkeys(("at", "then"), "2025-03-30 02:30:00")), good=1),
    Case("hour that exists twice", as_csv(ROW | dict.fromkeys(("at", "then"), "2025-10-26 02:30:00")), good=1),
    one_bad("long id", "length of impression_id is outside [1, 256]", id="i" * 10_000),
]
CSV_LINES = [
    second_line("too few columns", b"2,2026-01-05 12:00:00", "missing columns"),
    second_line(
        "too many columns", b"2,2026-01-05 12:00:00,top,a,1,0,150,0.5,2026-01-05 12:01:00,more", "too many columns"
    ),
    second_line("trailing delimiter", b"2,2026-01-05 12:00:00,top,a,1,0,150,0.5,2026-01-05 12:01:00,"),
    second_line(
        "lone quote",
        b'2,2026-01-05 12:00:00,"top,a,1,0,150,0.5,2026-01-05 12:01:00',
        "a quote is opened and not closed",
    ),
    second_line(
        "text after a quote", b'2,2026-01-05 12:00:00,"t"op,a,1,0,150,0.5,2026-01-05 12:01:00', "unquoted value"
    ),
    second_line(
        "another encoding midway", b"2,2026-01-05 12:00:00,t\xe4p,a,1,0,150,0.5,2026-01-05 12:01:00", "not valid UTF-8"
    ),
    second_line("embedded newline", b'2,2026-01-05 12:00:00,"t\nop",a,1,0,150,0.5,2026-01-05 12:01:00'),
    second_line("quoted delimiter", b'2,2026-01-05 12:00:00,"t,op",a,1,0,150,0.5,2026-01-05 12:01:00'),
    second_line("doubled quote", b'2,2026-01-05 12:00:00,"t""op",a,1,0,150,0.5,2026-01-05 12:01:00'),
    second_line("NUL byte", b"2,2026-01-05 12:00:00,t\x00p,a,1,0,150,0.5,2026-01-05 12:01:00"),
    Case("blank line", as_csv(ROW) + b"\n" + as_csv(SECOND).split(b"\n", 1)[1], good=2),
    second_line(
        "10 MB string",
        b"2,2026-01-05 12:00:00," + b"x" * 10_000_000 + b",a,1,0,150,0.5,2026-01-05 12:01:00",
        "line size over maximum",
    ),
    second_line("header again midway", ",".join(ROW).encode(), "click"),
    Case("windows line ends", as_csv(ROW, SECOND, end="\r\n"), good=2),
    Case("old mac line ends", as_csv(ROW, SECOND, end="\r"), good=2),
    Case("mixed line ends", as_csv(ROW, end="\r\n") + as_csv(SECOND).split(b"\n", 1)[1], good=2),
    Case("no newline at the end", as_csv(ROW, SECOND)[:-1], good=2),
    Case("byte order mark", b"\xef\xbb\xbf" + as_csv(ROW), good=1),
    Case("one row", as_csv(ROW), good=1),
    Case("columns in another order", b"prob,more," + as_csv(ROW), rejected="twice"),
]
CSV_FILES = [
    Case("empty", b"", rejected="the file is empty"),
    Case("header only", as_csv(), rejected="a header and no rows"),
    Case("blank lines only", b"\n\n\n", rejected="the first line is blank"),
    Case("wrong delimiter", as_csv(ROW, separator=";"), rejected="are missing"),
    Case("duplicate columns", b"id," + as_csv(ROW), rejected="the header names ['id'] twice"),
    Case("renamed column", as_csv(ROW).replace(b"clicked", b"klicked"), rejected="columns ['clicked'] are missing"),
    Case("10 MB header", b"x" * 10_000_000, rejected="the header is longer than"),
    Case("no header", as_csv(ROW).split(b"\n", 1)[1], rejected="the header names ['1'] twice"),
    Case("utf-16", as_csv(ROW).decode().encode("utf-16"), rejected="the header is not utf-8"),
    Case("noise", bytes(range(256)) * 50, rejected="the header is not utf-8"),
    Case("NULs only", bytes(1000), rejected="the header is not utf-8"),
    Case("100,000 columns", b",".join(b"c%d" % n for n in range(100_000)) + b"\n", rejected="it has 100,000 columns"),
    Case("parquet by another name", as_parquet(ROW), rejected="the header is not utf-8"),
    Case("html error page", b"<!DOCTYPE html>\n<html><body>503</body></html>\n", rejected="are missing"),
    Case("gzip.gz", gzip.compress(as_csv(ROW)), good=1),
    Case("gzip by another name", gzip.compress(as_csv(ROW)), good=1),
    Case("truncated gzip.gz", gzip.compress(as_csv(ROW) * 1000)[:-20], rejected="not readable as csv"),
    Case("no gzip.gz", as_csv(ROW), good=1),
    Case("gzip of nothing.gz", gzip.compress(b""), rejected="the file is empty"),
    Case("gzip of gzip.gz", gzip.compress(gzip.compress(as_csv(ROW))), rejected="the header is not utf-8"),
    Case(
        "zip bomb.gz", gzip.compress(bytes(MAX_EXPANDED_BYTES + 1)), rejected="it unpacks to more than 16,777,216 bytes"
    ),
    Case("n" * 240, as_csv(ROW), good=1),
    Case("a name in 日本語 with 'quotes' & spaces", as_csv(ROW), good=1),
]
JSON_CASES = [
    Case(
        "broken line",
        as_jsonl(ROW) + b'{"id": "2",\n' + as_jsonl(SECOND),
        good=2,
        bad=1,
        reason="the line is not a JSON object",
    ),
    Case("array of rows", json.dumps([ROW, SECOND]).encode(), rejected="no line is a JSON object"),
    Case("indented", json.dumps(ROW, indent=1).encode(), rejected="no line is a JSON object"),
    Case("a number among rows", as_jsonl(ROW, 5, SECOND), good=2, bad=1, reason="impression_id is missing"),
    Case("no JSON", b"not\njson\n", rejected="no line is a JSON object"),
    Case("byte order mark", b"\xef\xbb\xbf" + as_jsonl(ROW), good=1),
    Case(
        "type change",
        as_jsonl(ROW, SECOND | {"clicked": {"n": 1}}),
        good=1,
        bad=1,
        reason="click cannot be read as a whole number",
    ),
    Case("click as a boolean", as_jsonl(ROW | {"clicked": True}), good=1),
    Case(
        "key missing in a line",
        as_jsonl(ROW, {k: v for k, v in SECOND.items() if k != "ad"}),
        good=1,
        bad=1,
        reason="ad_id is missing",
    ),
    Case("null", as_jsonl(ROW, SECOND | {"ad": None}), good=1, bad=1, reason="ad_id is missing"),
    Case("key twice in a line", as_jsonl(ROW).replace(b"{", b'{"id": "9", '), good=1),
    Case(
        "NaN", as_jsonl(ROW, SECOND | {"cents": float("nan")}), good=1, bad=1, reason="revenue is outside [0, 1000000]"
    ),
    Case(
        "lone surrogate",
        as_jsonl(ROW) + json.dumps(SECOND | {"ad": "\ud800"}).encode(),
        good=1,
        bad=1,
        reason="the line is not a JSON object",
    ),
    Case("NUL escape", as_jsonl(ROW, SECOND | {"ad": "a\x00"}), good=2),
    Case(
        "raw NUL",
        as_jsonl(ROW) + as_jsonl(SECOND).replace(b"top", b"t\x00p"),
        good=1,
        bad=1,
        reason="the line is not a JSON object",
    ),
    Case(
        "deeply nested",
        as_jsonl(ROW) + b'{"id":' + b"[" * 5000 + b"]" * 5000 + b"}\n",
        good=1,
        bad=1,
        reason="event_timestamp is missing",
    ),
    Case("windows line ends", as_jsonl(ROW, SECOND).replace(b"\n", b"\r\n"), good=2),
    Case("empty", b"", rejected="the file is empty"),
    Case("empty objects", b"{}\n{}\n", rejected="no line is a JSON object"),
    Case(
        "10 MB string", as_jsonl(ROW, SECOND | {"ad": "x" * 10_000_000}), good=1, bad=1, reason="line size over maximum"
    ),
]
PARQUET_CASES = [
    Case("truncated", as_parquet(ROW)[:-20], rejected="not readable as parquet"),
    Case("damaged", as_parquet(ROW)[:60] + bytes(40) + as_parquet(ROW)[100:], rejected="not readable as parquet"),
    Case("magic only", b"PAR1PAR1", rejected="not readable as parquet"),
    Case("csv by another name", as_csv(ROW), rejected="not readable as parquet"),
    Case("empty", b"", rejected="the file is empty"),
    Case("no rows", as_parquet(ROW, times=0), rejected="a header and no rows"),
    Case("run of one value", as_parquet(ROW, times=2_000_000), rejected="it unpacks to more than 16,777,216 bytes"),
    Case("one row", as_parquet(ROW), good=1),
    Case("nested value", as_parquet(ROW | {"ad": {"name": "a"}}), good=1),
    Case("list value", as_parquet(ROW | {"clicked": [1]}), bad=1, reason="click cannot be read as a whole number"),
    Case(
        "column renamed",
        as_parquet({("klicked" if k == "clicked" else k): v for k, v in ROW.items()}),
        rejected="columns ['clicked'] are missing",
    ),
    Case(
        "NaN",
        as_parquet(ROW | {"cents": 1.0}, SECOND | {"cents": float("nan")}),
        good=1,
        bad=1,
        reason="revenue is outside [0, 1000000]",
    ),
    Case("clicks as booleans", as_parquet(ROW | {"clicked": True}), good=1),
    Case("bytes", as_parquet(ROW | {"ad": b"\xff\xfe"}), good=1),
]


def contract_for(kind: FileFormat) -> Contract:
    columns = {
        "impression_id": {"template": "{file}-{id}"},
        "event_timestamp": {"from": "at", "zone": "Europe/Berlin"},
        "placement_id": {"from": "slot"},
        "ad_id": {"from": "ad"},
        "click": {"from": "clicked"},
        "conversion": {"from": "bought"},
        "revenue": {"from": "cents", "scale": 0.01},
        "propensity": {"from": "prob"},
        "outcome_timestamp": {"from": "then", "zone": "Europe/Berlin"},
    }
    return minimal_contract(
        source=f"bad_{kind}_{uuid4().hex[:8]}",
        landing={"path": "{file}", "format": kind},
        columns=columns,
        quarantine_share_limit=1.0,
    )


GOOD_NAME = "good"
GOOD_BODIES = {"csv": as_csv(ROW, SECOND), "jsonl": as_jsonl(ROW, SECOND), "parquet": as_parquet(ROW, SECOND)}
CASES: dict[FileFormat, list[Case]] = {
    "csv": [*CSV_ROWS, *CSV_LINES, *CSV_FILES],
    "jsonl": JSON_CASES,
    "parquet": PARQUET_CASES,
}
Landed = dict[str, Entry]  # by name of the file


@pytest.fixture(scope="module")
def landed(object_store: Settings) -> dict[FileFormat, Landed]:
    """All cases of a format land with one good file, and are ingested in one batch."""
    store = Store(object_store.model_copy(update={"max_expanded_bytes": MAX_EXPANDED_BYTES}))
    return {kind: _ingest(store, contract_for(kind), cases) for kind, cases in CASES.items()}


def _ingest(store: Store, contract: Contract, cases: list[Case]) -> Landed:
    good = Case(GOOD_NAME, GOOD_BODIES[contract.landing.format], good=2)
    for case in (*cases, good):
        store.put(landing_prefix(contract.source) + case.name, case.body)
    (batch,) = pending_batches(Lake(store, contract))
    entries = ingest_batch(Lake(store, contract), batch).entries
    assert list(pending_batches(Lake(store, contract))) == []
    _check_lake(store, contract, sum(case.good for case in (*cases, good)))
    return {entry.landed.key.removeprefix(landing_prefix(contract.source)): entry for entry in entries}


def _check_lake(store: Store, contract: Contract, rows: int) -> None:
    with connect(store.settings) as connection:
        glob = store.uri(f"{impressions_prefix(contract.source)}**/*.parquet")
        assert connection.execute(f"SELECT count(*) FROM read_parquet('{glob}')").fetchone() == (rows,)


@pytest.mark.parametrize(
    ("kind", "case"),
    [pytest.param(kind, case, id=f"{kind} {case.name[:50]}") for kind in CASES for case in CASES[kind]],
)
def test_bad_input_ends_as_it_should(landed: dict[FileFormat, Landed], kind: FileFormat, case: Case) -> None:
    entry = landed[kind][case.name]
    assert (entry.status, entry.rows_valid, entry.rows_quarantined) == (
        "rejected" if case.rejected else "ingested",
        case.good,
        case.bad,
    )
    assert (case.rejected or "") in (entry.error or "")
    assert not case.reason or case.reason in str(list(entry.reasons))


@pytest.mark.parametrize("kind", CASES)
def test_the_good_file_beside_them_is_ingested(landed: dict[FileFormat, Landed], kind: FileFormat) -> None:
    entry = landed[kind][GOOD_NAME]
    assert (entry.status, entry.rows_valid, entry.rows_quarantined) == ("ingested", 2, 0)


def test_there_are_enough_kinds() -> None:
    assert sum(map(len, CASES.values())) >= 40
