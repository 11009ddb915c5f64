"""A landed file becomes canonical rows, each with what is wrong with it; nothing that landed is dropped in silence."""

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lib.contracts import minimal_contract

from liftloop.contract.contract import Contract
from liftloop.contract.suite import load_suite
from liftloop.landing.parse import LandedFile, create_tables, parse
from liftloop.landing.rejection import FileRejectedError
from liftloop.landing.rules import compile_rules

COLUMNS: dict[str, Any] = {
    "impression_id": {"template": "{shop}-{id}"},
    "event_timestamp": {"from": "at", "zone": "Europe/Berlin"},
    "placement_id": {"from": "slot"},
    "ad_id": {"from": "ad"},
    "click": {"from": "clicked"},
    "revenue": {"from": "cents", "scale": 0.01},
}
ROW = {"id": "1", "at": "2026-07-01 12:00:00", "slot": "top", "ad": "a", "clicked": "0", "cents": "150"}


def contract(kind: str = "csv", **changes: Any) -> Contract:
    ours = {"landing": {"path": "{shop}/log", "format": kind}, "columns": COLUMNS}
    return minimal_contract(**ours | {"outcome": {"delay": "10m", "horizon": "1h"}, "maturity": "30m"} | changes)


def read(
    path: Path, used: Contract | None = None, lookups: dict[str, Path] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables `impressions` and `unread` after parsing one file."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        used = used or contract()
        create_tables(connection, used)
        file = LandedFile("o1", path.name, path, {"shop": "s"}, lookups or {}, max_expanded_bytes=2**20)
        parse(connection, used, file, compile_rules(load_suite()))
        return connection.sql("FROM impressions").df(), connection.sql("FROM unread").df()


def as_csv(rows: list[dict[str, str]], separator: str = ",") -> bytes:
    return "\n".join(separator.join(line) for line in (rows[0], *(row.values() for row in rows))).encode()


def as_json_lines(rows: list[dict[str, str]]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def as_parquet(rows: list[dict[str, str]], folder: Path) -> bytes:
    path = folder / "rows.parquet"
    pd.DataFrame(rows).astype({"clicked": "int64", "cents": "int64"}).to_parquet(path)
    return path.read_bytes()


@pytest.mark.parametrize("is_gzipped", [False, True])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_reads_the_same(tmp_path: Path, kind: str, is_gzipped: bool) -> None:
    rows = [ROW, ROW | {"id": "2", "ad": "b,\tü"}]
    rows[1]["ad"] = "bü"
    body = {
        "csv": as_csv(rows),
        "tsv": as_csv(rows, "\t"),
        "jsonl": as_json_lines(rows),
        "parquet": as_parquet(rows, tmp_path),
    }[kind]
    path = tmp_path / ("log." + kind + (".gz" if is_gzipped else ""))
    path.write_bytes(gzip.compress(body) if is_gzipped else body)
    impressions, unread = read(path, contract(kind))
    assert list(impressions["impression_id"]) == ["s-1", "s-2"]
    assert list(impressions["ad_id"]) == ["a", "bü"]
    assert list(impressions["revenue"]) == [1.5, 1.5]
    assert list(impressions["event_timestamp"].dt.tz_convert("UTC").astype(str).unique()) == [
        "2026-07-01 10:00:00+00:00"
    ]
    assert list(impressions["outcome_timestamp"] - impressions["event_timestamp"]) == [pd.Timedelta(minutes=10)] * 2
    assert [list(reasons) for reasons in impressions["reasons"]] == [[], []]
    assert unread.empty


@pytest.mark.parametrize(
    ("column", "text", "expected"),
    [
        ({"from": "at", "zone": "Europe/Berlin"}, "2026-01-05 00:30:00", "2026-01-04T23:30:00"),
        ({"from": "at", "zone": "Europe/Berlin"}, "2026-01-05 00:30:00+00:00", "2026-01-05T00:30:00"),
        ({"from": "at", "zone": "Europe/Berlin"}, "2026-01-05T00:30:00Z", "2026-01-05T00:30:00"),
        ({"from": "at", "zone": "America/New_York"}, "2026-01-05", "2026-01-05T05:00:00"),
        ({"from": "at"}, "2026-01-05 00:30:00.250", "2026-01-05T00:30:00.250"),
        ({"from": "at", "time": "epoch_seconds"}, "1767573000.5", "2026-01-05T00:30:00.500"),
        ({"from": "at", "time": "epoch_milliseconds"}, "1767573000500", "2026-01-05T00:30:00.500"),
        ({"from": "at", "time": "epoch_milliseconds"}, "1767573000500.25", "2026-01-05T00:30:00.500250"),
        ({"from": "at", "time": "epoch_milliseconds"}, "17675730005e2", "2026-01-05T00:30:00.500"),
        ({"from": "at", "time": "epoch_nanoseconds"}, "1767573000500250499", "2026-01-05T00:30:00.500250"),
    ],
)
def test_times(tmp_path: Path, column: dict[str, Any], text: str, expected: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(as_csv([ROW | {"at": text}]))
    impressions, _ = read(path, contract(columns=COLUMNS | {"event_timestamp": column}))
    assert impressions["event_timestamp"][0] == pd.Timestamp(expected, tz="UTC")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": ""}, "impression_id is missing"),
        ({"at": "yesterday"}, "event_timestamp cannot be read as a time"),
        ({"at": "2999-01-01 00:00:00"}, "breaks the rule: event_timestamp is not in the future"),
        ({"clicked": "maybe"}, "click cannot be read as a whole number"),
        ({"clicked": "2"}, "click is not one of 0, 1"),
        ({"cents": "-1"}, "revenue is outside [0, 1000000]"),
        ({"cents": "lots"}, "revenue cannot be read as a number"),
        ({"slot": "x" * 300}, "length of placement_id is outside [1, 256]"),
    ],
)
def test_a_bad_row_is_kept_with_its_reason(tmp_path: Path, change: dict[str, str], reason: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(as_csv([ROW, ROW | {"id": "2"} | change]))
    impressions, _ = read(path)
    assert list(impressions["reasons"][0]) == []
    assert reason in list(impressions["reasons"][1])
    assert json.loads(impressions["raw"][1])["slot"] == (ROW | change)["slot"]


@pytest.mark.parametrize("text", ["1e300", "-1e300", "nan", "inf", "soon"])
@pytest.mark.parametrize("time", ["epoch_seconds", "epoch_milliseconds"])
def test_a_number_that_is_no_time_costs_its_row_alone(tmp_path: Path, time: str, text: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(as_csv([ROW | {"at": "1767573000"}, ROW | {"id": "2", "at": text}]))
    columns = COLUMNS | {"event_timestamp": {"from": "at", "time": time}}
    impressions, _ = read(path, contract(columns=columns))
    assert "event_timestamp cannot be read as a time" in list(impressions["reasons"][1])
    assert "event_timestamp cannot be read as a time" not in list(impressions["reasons"][0])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"3,2026-07-01", "missing columns"),
        (b"3,2026-07-01 12:00:00,top,a,0,150,surplus", "too many columns"),
        (b"3,2026-07-01 12:00:00,t\xffp,a,0,150", "not valid UTF-8"),
        (b'3,2026-07-01 12:00:00,"t"op,a,0,150', "unquoted value"),
    ],
)
def test_a_line_that_is_no_row_is_kept_too(tmp_path: Path, line: bytes, reason: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(as_csv([ROW]) + b"\n" + line + b"\n" + as_csv([ROW | {"id": "4"}]).split(b"\n")[1])
    impressions, unread = read(path)
    assert list(impressions["impression_id"]) == ["s-1", "s-4"]
    assert list(unread["line"]) == [3]
    assert reason in unread["reason"][0]


def test_the_first_record_may_hold_a_line_break_of_any_kind(tmp_path: Path) -> None:
    path = tmp_path / "log"
    rows = as_csv([ROW | {"slot": "SLOT"}, ROW | {"id": "2"}])
    for value in (b'"a\rb"', b'"a\r\nb"', b'"a\nb"'):
        path.write_bytes(rows.replace(b"SLOT", value))
        impressions, unread = read(path)
        assert list(impressions["placement_id"]) == [value.decode().strip('"'), "top"]
        assert unread.empty


def test_a_parquet_file_may_not_name_a_column_twice(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array(["1"]), pa.array(["2"])], names=["id", "id"])
    pq.write_table(twice, tmp_path / "log")
    with pytest.raises(FileRejectedError, match=r"the header names \['id'\] twice"):
        read(tmp_path / "log", contract("parquet"))


def test_a_broken_json_line_costs_one_row(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(as_json_lines([ROW]) + b'\n{"id": "2", \n' + as_json_lines([ROW | {"id": "3"}]))
    impressions, _ = read(path, contract("jsonl"))
    assert list(impressions["impression_id"].fillna("none")) == ["s-1", "none", "s-3"]
    assert impressions["reasons"][1][0] == "the line is not a JSON object"
    assert json.loads(impressions["raw"][1])["json_line"] == '{"id": "2", '


def test_json_names_that_differ_in_case_are_one_and_the_contract_s_spelling_wins(tmp_path: Path) -> None:
    other = {("ID" if name == "id" else name): value for name, value in ROW.items()}
    path = tmp_path / "log"
    path.write_bytes(as_json_lines([other, other | {"id": "2"}, ROW | {"id": "3"}, other | {"ID": "4"}]))
    impressions, _ = read(path, contract("jsonl"))
    assert list(impressions["impression_id"]) == ["s-1", "s-2", "s-3", "s-4"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "latin-1"])
def test_every_encoding_reads_the_same(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(as_csv([ROW | {"ad": "bü"}]).decode().encode(encoding))
    landing = {"path": "{shop}/log", "format": "csv", "encoding": encoding}
    impressions, _ = read(path, contract(landing=landing))
    assert list(impressions["ad_id"]) == ["bü"]


@pytest.mark.parametrize("key", ["", "a\0b", "landed", "json_line", "reasons", "object_id", "a.b", "'", '"'])
def test_a_key_that_nobody_asked_for_does_no_harm(tmp_path: Path, key: str) -> None:
    path = tmp_path / "log"
    path.write_bytes(as_json_lines([ROW, ROW | {"id": "2", key: "odd"}]))
    impressions, _ = read(path, contract("jsonl"))
    assert list(impressions["impression_id"]) == ["s-1", "s-2"]
    assert [len(reasons) for reasons in impressions["reasons"]] == [0, 0]


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("csv", b"", "the file is empty"),
        ("csv", b"id;at\n1;2\n", r"columns \['ad', 'at', 'cents', 'clicked', 'id', 'slot'\] are missing"),
        ("csv", b"id,id,at\n", r"the header names \['id'\] twice"),
        ("csv", "id,at\n1,2\n".encode("utf-16"), "the header is not utf-8: set landing.encoding"),
        ("parquet", b"PAR1 and then nothing", "not readable as parquet"),
        (
            "utf-16",
            "id,at\n1,2\n".encode("utf-16-le"),
            "no byte order mark: set landing.encoding to utf-16-le or utf-16-be",
        ),
        ("jsonl", b"no json\nat all\n", "no line is a JSON object"),
    ],
)
def test_a_file_that_is_not_what_the_contract_says_is_rejected(
    tmp_path: Path, kind: str, body: bytes, words: str
) -> None:
    path = tmp_path / "log"
    path.write_bytes(body)
    landing = {"path": "{shop}/log", "format": "csv", "encoding": "utf-16"}
    with pytest.raises(FileRejectedError, match=words):
        read(path, contract(landing=landing) if kind == "utf-16" else contract(kind))


def test_a_file_without_header_and_without_a_record_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"\n\xff\n")
    columns = {name: {"from": str(place)} for place, name in enumerate(COLUMNS, 1)}
    landing = {"path": "{shop}/log", "format": "csv", "header": "none"}
    with pytest.raises(FileRejectedError, match="no line is a record"):
        read(path, contract(landing=landing, columns=columns))


def test_a_message_names_many_columns_in_short(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(",".join(f"column {number}" for number in range(1_000)).encode())
    with pytest.raises(FileRejectedError, match="are missing") as refused:
        read(path)
    assert len(str(refused.value)) < 600


def test_a_message_has_no_local_path(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"no parquet at all")
    with pytest.raises(FileRejectedError, match="No magic bytes") as refused:
        read(path, contract("parquet"))
    assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize(
    ("place", "value", "words"), [(6, 1, "encrypted"), (8, 99, "not supported"), (8, 14, "not readable")]
)
def test_an_archive_that_cannot_be_unpacked_is_rejected(tmp_path: Path, place: int, value: int, words: str) -> None:
    """Flags and method; in the directory they stand two bytes later."""
    path = tmp_path / "log"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("log", as_csv([ROW]) * 10)
    body = bytearray(path.read_bytes())
    body[place] = body[body.index(b"PK\x01\x02") + place + 2] = value
    path.write_bytes(body)
    with pytest.raises(FileRejectedError, match=words):
        read(path)


def test_a_broken_gzip_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress(as_csv([ROW] * 1000))[:-20])
    with pytest.raises(FileRejectedError, match="not readable as csv"):
        read(path)


def test_pick_and_lookup(tmp_path: Path) -> None:
    path, reference = tmp_path / "log", tmp_path / "ads"
    path.write_bytes(
        as_csv([ROW | {"like_a": "0.5", "like_b": "0.9"}, ROW | {"id": "2", "ad": "b"} | {"x": "1", "y": "7"}])
    )
    reference.write_bytes(b"name,colour\na,red\n")
    used = contract(
        lookups={"ads": {"path": "ads", "format": "csv", "match": {"ad": "name"}}},
        context={
            "affinity": {"pick": "like_{ad}", "type": "float", "about": "pair"},
            "colour": {"from": "ads.colour", "type": "string", "about": "ad"},
        },
    )
    impressions, _ = read(path, used, {"ads": reference})
    by_ad = impressions.set_index("ad_id")
    assert dict(by_ad["affinity"]) == {"a": 0.5, "b": 7.0}
    assert dict(by_ad["colour"].fillna("none")) == {"a": "red", "b": "none"}


def test_row_and_file_are_names_too(tmp_path: Path) -> None:
    columns = COLUMNS | {"impression_id": {"template": "{file}:{row}"}}
    path = tmp_path / "log"
    path.write_bytes(as_csv([ROW, ROW | {"id": "2"}]))
    impressions, _ = read(path, contract(columns=columns))
    assert list(impressions["impression_id"]) == ["log:1", "log:2"]


def test_a_column_wins_over_a_name_of_ours(tmp_path: Path) -> None:
    columns = COLUMNS | {"impression_id": {"template": "{file}:{row}"}}
    path = tmp_path / "log"
    path.write_bytes(as_csv([{**ROW, "file": "f", "row": "r"}]))
    impressions, _ = read(path, contract(columns=columns))
    assert list(impressions["impression_id"]) == ["f:r"]


def test_paths_into_nested_values(tmp_path: Path) -> None:
    columns = COLUMNS | {"placement_id": {"from": "imp[0].tag"}, "ad_id": {"from": "site.ad"}}
    row = ROW | {"imp": [{"tag": "top"}], "site": {"ad": "a"}}
    path = tmp_path / "log"
    for kind, body in (("jsonl", json.dumps(row).encode()), ("parquet", as_parquet([row], tmp_path))):  # type: ignore[list-item]
        path.write_bytes(body)
        impressions, _ = read(path, contract(kind, columns=columns))
        assert impressions[["placement_id", "ad_id"]].to_numpy().tolist() == [["top", "a"]]


def test_a_reference_key_that_is_there_twice_is_named(tmp_path: Path) -> None:
    path, reference = tmp_path / "log", tmp_path / "ads"
    path.write_bytes(as_csv([ROW]))
    reference.write_bytes(b"ad,camp\na,1\nb,2\na,3\n")
    used = contract(lookups={"ads": {"path": "ads.csv", "format": "csv", "match": {"ad": "ad"}}})
    with pytest.raises(FileRejectedError, match=r"ads has \['ad'\] = \[a\] more than once"):
        read(path, used, {"ads": reference})


def test_a_reference_key_that_is_not_exact_is_named_and_none_matches_nothing(tmp_path: Path) -> None:
    path, reference = tmp_path / "log", tmp_path / "ads"
    path.write_bytes(as_csv([ROW]))
    columns = COLUMNS | {"campaign_id": {"from": "ads.camp"}}
    used = contract(columns=columns, lookups={"ads": {"path": "ads.csv", "format": "csv", "match": {"ad": "ad"}}})
    reference.write_bytes(b"ad,camp\na,1\n1e5,2\n")
    with pytest.raises(FileRejectedError, match=r"ads has \['ad'\] = \[1e5\], which is not exact"):
        read(path, used, {"ads": reference})
    reference.write_bytes(b"ad,camp\na,1\n,2\n,3\n")
    impressions, _ = read(path, used, {"ads": reference})
    assert list(impressions["campaign_id"]) == ["1"]


def test_null_values_are_missing(tmp_path: Path) -> None:
    landing = {"path": "{shop}/log", "format": "csv", "null_values": ["null", "-1"]}
    path = tmp_path / "log"
    path.write_bytes(as_csv([ROW | {"cents": "-1", "slot": "null"}]))
    impressions, _ = read(path, contract(landing=landing))
    assert impressions["revenue"].isna().all()
    assert impressions["reasons"][0].tolist() == ["placement_id is missing"]
