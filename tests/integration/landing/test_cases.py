"""Reports from the field: small inputs of real log formats, and what the lake holds of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from lib.projects import REPOSITORY

from liftloop.contract.loading import ContractError, load_contract
from liftloop.lake.lake import Lake
from liftloop.landing.ingest import BatchResult, ingest_batch, pending_batches
from liftloop.storage.duckdb import connect
from liftloop.storage.keys import landing_prefix
from liftloop.storage.store import Store

CASES = REPOSITORY.parent / "shared" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"{CASES} is not here: the cases may not be redistributed")

Ingest = Callable[..., tuple[Lake, list[BatchResult]]]


@pytest.fixture
def ingest(store: Store, tmp_path: Path) -> Ingest:
    """Lands a case and ingests it under its contract, with changes to the document."""

    def run(case: str, source: str, change: Callable[[dict[str, Any]], None] = lambda _: None) -> Any:
        document = yaml.safe_load((CASES / case / f"{source}.yaml").read_text(encoding="utf-8"))
        change(document)
        (tmp_path / f"{source}.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
        contract = load_contract(source, tmp_path)
        folder = CASES / case / "landing" / source
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            store.put(f"{landing_prefix(source)}{file.relative_to(folder)}", file.read_bytes())
        lake = Lake(store, contract)
        return lake, [ingest_batch(lake, batch) for batch in pending_batches(lake)]

    return run


def column(lake: Lake, name: str) -> list[Any]:
    """The values of a column of the lake, by impression."""
    with connect(lake.store.settings) as connection:
        rows = connection.read_parquet(lake.uris).order("event_timestamp, impression_id")
        return [row[0] for row in rows.project(name).fetchall()]


def counts(results: list[BatchResult]) -> list[tuple[str, int, int]]:
    entries = [entry for result in results for entry in result.entries]
    return [(entry.status, entry.rows_valid, entry.rows_quarantined) for entry in entries]


def test_unclosed_quote(ingest: Ingest) -> None:
    _, results = ingest("unclosed_quote", "lone_csv")
    assert counts(results) == [("ingested", 2998, 1)]


@pytest.mark.parametrize("source", ["pandas_csv", "pandas_days", "pandas_jsonl"])
def test_int_or_float_ids(ingest: Ingest, source: str) -> None:
    lake, _ = ingest("int_or_float_ids", source)
    assert {*column(lake, "ad_id")} == {"101", "102"}


def test_scale_of_integer(ingest: Ingest) -> None:
    _, results = ingest("scale_of_integer", "scale_int")
    assert counts(results) == [("ingested", 0, 4)]


def test_template_with_spaces(ingest: Ingest) -> None:
    lake, _ = ingest("template_with_spaces", "cm_template")
    assert column(lake, "placement_id") == ["41:300", "41:301", "42:300"]


def test_zone_in_text(ingest: Ingest) -> None:
    lake, _ = ingest("zone_in_text", "bigquery")
    times = column(lake, "event_timestamp")
    assert [time.strftime("%H:%M:%S %z") for time in times] == ["12:00:00 +0000"] * 3


def test_collapsed_ids(ingest: Ingest) -> None:
    _, results = ingest("collapsed_ids", "avazu_excel")
    (entry,) = results[0].entries
    assert (entry.status, entry.rows_valid) == ("held", 0)
    assert entry.reasons["impression_id cannot be read as exact text"] == 200


def test_reference_key_types(ingest: Ingest) -> None:
    text, _ = ingest("reference_key_types", "lookup_text")
    numbers, _ = ingest("reference_key_types", "lookup_types")
    found = [dict(zip(column(lake, "ad_id"), column(lake, "campaign_id"), strict=True)) for lake in (text, numbers)]
    assert {"007": None, "7": "seven", "8": "eight"} in found
    assert {"house": None, "7": "seven"} in found


def test_column_names(ingest: Ingest) -> None:
    with pytest.raises(ContractError, match=r"price\[eur\].* price_eur: {from: 'price\[eur\]'}"):
        ingest("column_names", "prices")


def test_headerless_null_long_times(ingest: Ingest) -> None:
    named = CASES / "headerless_null_long_times" / "landing" / "ipinyou_null" / "imp.20130606.txt"
    names = named.read_text(encoding="utf-8").splitlines()[0].split("\t")

    def change(document: dict[str, Any]) -> None:
        document["landing"] |= {"header": names, "null_values": ["null"]}
        document["columns"]["event_timestamp"]["time"] = "yyyyMMddHHmmssSSS"

    lake, _ = ingest("headerless_null_long_times", "ipinyou_raw", change)
    assert column(lake, "user_id") == ["u1", None, None]
    assert column(lake, "event_timestamp")[0].isoformat() == "2013-06-05T16:01:04.008000+00:00"


def test_nested_json(ingest: Ingest) -> None:
    lake, _ = ingest("nested_json", "openrtb")
    assert [column(lake, name) for name in ("placement_id", "ad_id", "site_id")] == [["top"], ["a"], ["s1"]]


def test_packed_files(ingest: Ingest) -> None:
    _, results = ingest("packed_files", "packed")
    assert {status for status, *_ in counts(results)} == {"ingested"}


def test_marker_files(ingest: Ingest) -> None:
    _, results = ingest("marker_files", "spark")
    assert [status for status, *_ in counts(results)] == ["ingested"]


def test_decimal_comma(ingest: Ingest) -> None:
    def semicolon(document: dict[str, Any]) -> None:
        document["landing"] |= {"delimiter": ";", "decimal": ","}
        document["columns"]["event_timestamp"]["time"] = "dd.MM.yyyy HH:mm"

    lake, _ = ingest("decimal_comma", "semicolon", semicolon)
    assert column(lake, "revenue") == [1.5]


def test_preamble_and_total(ingest: Ingest) -> None:
    _, results = ingest("decimal_comma", "preamble", lambda document: document["landing"].update(skip_rows=2, footer=1))
    assert [(valid, bad) for _, valid, bad in counts(results)] == [(2, 0)]


def test_candidate_list(ingest: Ingest) -> None:
    def change(document: dict[str, Any]) -> None:
        document["landing"]["explode"] = {"column": "impressions", "separator": " "}
        document["columns"] |= {
            "impression_id": {"template": "{id}-{position}"},
            "event_timestamp": {"from": "time", "time": "M/d/yyyy h:mm:ss a"},
            "ad_id": {"sql": "split_part(impressions, '-', 1)"},
            "click": {"sql": "split_part(impressions, '-', 2)"},
        }

    lake, results = ingest("candidate_list", "mind", change)
    assert counts(results) == [("ingested", 5, 0)]
    assert column(lake, "ad_id") == ["N55", "N35", "N36", "N35", "N55"]
    assert column(lake, "click") == [1, 0, 0, 0, 1]


def test_view_through(ingest: Ingest) -> None:
    def change(document: dict[str, Any]) -> None:
        document["outcome"]["conversion_requires_click"] = False

    lake, results = ingest("view_through", "criteo_viewthrough", change)
    assert counts(results) == [("ingested", 4, 0)]
    assert column(lake, "conversion") == [0, 0, 1, 1]
    assert column(lake, "click") == [0, 1, 1, 0]
