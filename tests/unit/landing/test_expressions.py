"""Expressions, row filters and lists in one column: what they give, and what is said of rows for which they fail."""

import json
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lib.contracts import minimal_contract, short_names_document
from pydantic import ValidationError

from liftloop.contract.contract import Contract
from liftloop.contract.suite import load_suite
from liftloop.landing.parse import LandedFile, create_tables, parse
from liftloop.landing.rejection import FileRejectedError
from liftloop.landing.rules import compile_rules

ROWS = "id,at,slot,ad,clicked,price\n1,2026-07-01 12:00:00,top,a,0,1.5\n2,2026-07-01 12:00:01,side,b,1,x\n"


def contract(columns: dict[str, Any], **changes: Any) -> Contract:
    document = short_names_document()
    landing = document["landing"] | changes.pop("landing", {})
    return minimal_contract(**document | {"landing": landing, "columns": document["columns"] | columns} | changes)


def read(folder: Path, text: str, used: Contract) -> tuple[pd.DataFrame, int]:
    """The table `impressions` after parsing one file, and the number of rows left out."""
    path = folder / "log"
    path.write_text(text, encoding="utf-8")
    return parsed(path, used)


def parsed(path: Path, used: Contract) -> tuple[pd.DataFrame, int]:
    """As `read`, of a file that is there."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        create_tables(connection, used)
        left_out = parse(connection, used, LandedFile("o1", "log", path, {"day": "d"}, {}, 2**20), RULES)
        return connection.sql("FROM impressions").df(), left_out


RULES = compile_rules(load_suite())


@pytest.mark.parametrize(
    ("expression", "first"),
    [
        ("clicked + clicked", 0),  # text that is calculated with is a number
        ("clicked < 1", 1),
        ("CASE WHEN slot = 'top' THEN 1 ELSE 0 END", 1),
        ("ad IN ('a', 'c')", 1),
        ("coalesce(clicked, 1)", 0),
        ("CASE WHEN slot = 'top' THEN clicked ELSE 1 END", 0),
        ("nullif(clicked, 7)", 0),
        ("length(concat(day, row)) - 1", 1),  # parts of the path, and the number of the row
        ("len(list_filter([clicked, slot], lambda each: each = 'top'))", 1),
    ],
)
def test_expressions(tmp_path: Path, expression: str, first: int) -> None:
    impressions, _ = read(tmp_path, ROWS, contract({"click": {"sql": expression}}))
    assert impressions["click"][0] == first
    assert list(impressions["reasons"][0]) == []


def test_a_failing_expression_costs_its_row_and_no_other(tmp_path: Path) -> None:
    """Also where two columns share the part that fails."""
    columns = {"revenue": {"sql": "price * 2"}, "cost": {"sql": "price * 2 + 1"}}
    impressions, _ = read(tmp_path, ROWS, contract(columns))
    assert impressions["revenue"][0] == 3.0
    assert list(impressions["reasons"][1]) == [
        "revenue cannot be computed as a number",
        "cost cannot be computed as a number",
    ]


def test_an_expression_may_be_null(tmp_path: Path) -> None:
    impressions, _ = read(tmp_path, ROWS, contract({"revenue": {"sql": "CASE WHEN slot = 'side' THEN 1 END"}}))
    assert list(impressions["reasons"][0]) == []
    assert pd.isna(impressions["revenue"][0])


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("(SELECT 1)", "subquery is not allowed"),
        ("count(*)", "count_star is not allowed"),
        ("now() > NULL", "now is not allowed"),
        ("getenv('HOME')", "getenv is not allowed"),
        ("sum(price) OVER ()", "window is not allowed"),
        ("price +", "not an SQL expression"),
        ("1; DROP TABLE impressions", "not an SQL expression"),
        ("*", "star is not allowed"),
    ],
)
def test_what_is_no_expression_over_one_row_is_refused_with_the_contract(expression: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        contract({"click": {"sql": expression}})
    with pytest.raises(ValidationError, match=message):
        contract({}, keep=expression)


def test_an_expression_that_does_not_fit_the_file_names_its_column(tmp_path: Path) -> None:
    with pytest.raises(FileRejectedError, match=r"click: abs\(slot\): .*abs"):
        read(tmp_path, ROWS, contract({"click": {"sql": "abs(slot)"}}))
    with pytest.raises(FileRejectedError, match=r"columns \['colour'\] are missing"):
        read(tmp_path, ROWS, contract({"click": {"sql": "colour = 'red'"}}))


def test_keep_leaves_rows_out_and_counts_them(tmp_path: Path) -> None:
    impressions, left_out = read(tmp_path, ROWS, contract({}, keep="slot = 'top'"))
    assert (list(impressions["impression_id"]), left_out) == (["1"], 1)


def test_a_row_for_which_keep_fails_is_bad_and_not_left_out(tmp_path: Path) -> None:
    impressions, left_out = read(tmp_path, ROWS, contract({}, keep="price > 1"))
    assert left_out == 0
    assert [list(reasons) for reasons in impressions["reasons"]] == [[], ["keep cannot be computed"]]


def test_a_line_that_is_no_json_is_bad_and_not_left_out(tmp_path: Path) -> None:
    lines = '{"id": 1, "at": "2026-07-01 12:00:00", "slot": "top", "ad": "a", "clicked": 0}\n{broken\n[1]\n'
    used = contract({}, landing={"format": "jsonl"}, keep="slot = 'side'")
    impressions, left_out = read(tmp_path, lines, used)
    assert left_out == 1
    assert [reasons[0] for reasons in impressions["reasons"]] == ["the line is not a JSON object"] * 2


@pytest.mark.parametrize(
    ("options", "landed"),
    [
        ({"separator": "|"}, "id,at,slot,ads,clicked\n1,{at},top,a|b|,0\n2,{at},top,,1\n"),
        ({}, 'id,at,slot,ads,clicked\n1,{at},top,"[""a"",""b""]",0\n2,{at},top,[],1\n'),
    ],
)
def test_each_element_becomes_a_row_and_a_record_without_one_is_bad(
    tmp_path: Path, options: dict[str, str], landed: str
) -> None:
    columns = {"impression_id": {"template": "{row}-{position}"}, "ad_id": {"from": "ads"}}
    used = contract(columns, landing={"explode": {"column": "ads", **options}})
    impressions, _ = read(tmp_path, landed.replace("{at}", "2026-07-01 12:00:00"), used)
    assert list(impressions["impression_id"]) == ["1-1", "1-2", "2-1"]
    assert list(impressions["ad_id"])[:2] == ["a", "b"]
    assert list(impressions["reasons"][2]) == ["ad_id is missing"]


def test_elements_of_json_have_paths(tmp_path: Path) -> None:
    lines = (
        '{"id": 1, "at": "2026-07-01 12:00:00", "clicked": 0, "imp": [{"tag": "x", "ad": 7}, {"tag": "y", "ad": 8}]}'
    )
    columns = {
        "impression_id": {"template": "{id}-{nth}"},
        "placement_id": {"from": "imp.tag"},
        "ad_id": {"sql": "imp.ad"},
    }
    explode = {"column": "imp", "position": "nth"}
    used = contract(columns, landing={"format": "jsonl", "explode": explode})
    impressions, _ = read(tmp_path, lines, used)
    assert list(impressions["placement_id"]) == ["x", "y"]
    assert list(impressions["ad_id"]) == ["7", "8"]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_list_that_would_repeat_its_record_without_end_is_refused(tmp_path: Path, kind: str) -> None:
    slot, ads = "x" * 2_000, "|".join("a" * 2_000)
    text = {
        "csv": f"id,at,slot,ad,clicked\n1,,{slot},{ads},0\n",
        "jsonl": f'{{"id": 1, "at": "", "slot": "{slot}", "ad": "{ads}", "clicked": 0}}\n',
    }
    used = contract({}, landing={"format": kind, "explode": {"column": "ad", "separator": "|"}})
    with pytest.raises(FileRejectedError, match="it unpacks to more than 1,048,576 bytes"):
        read(tmp_path, text[kind], used)


def test_a_clash_of_names_is_said(tmp_path: Path) -> None:
    used = contract({}, landing={"explode": {"column": "ad", "separator": "|", "position": "slot"}})
    with pytest.raises(FileRejectedError, match=r"has a column 'slot': set landing\.explode\.position"):
        read(tmp_path, ROWS, used)


def test_choices_between_text_and_numbers_round_nothing(tmp_path: Path) -> None:
    landed = ROWS.replace("x", "0.4")
    impressions, _ = read(tmp_path, landed, contract({"revenue": {"sql": "nullif(price, 0)"}}))
    assert list(impressions["revenue"]) == [1.5, 0.4]


def test_the_result_of_an_expression_has_the_layout_s_decimals(tmp_path: Path) -> None:
    landed = ROWS.replace(",", ";").replace("1.5", "1,5").replace("x", "2,25")
    columns = {"revenue": {"sql": "CASE WHEN price > 0 THEN price END"}}
    impressions, _ = read(tmp_path, landed, contract(columns, landing={"delimiter": ";", "decimal": ","}))
    assert list(impressions["revenue"]) == [1.5, 2.25]


def test_a_part_of_the_path_and_a_column_of_one_name_are_not_confused(tmp_path: Path) -> None:
    landed = ROWS.replace("slot", "day")
    with pytest.raises(FileRejectedError, match=r"parts \['day'\] of landing.path are also columns"):
        read(tmp_path, landed, contract({"placement_id": {"from": "day"}}))
    impressions, _ = read(
        tmp_path, landed.replace("ad,", "slot,").replace("day", "day"), contract({"ad_id": {"constant": "a"}})
    )
    assert len(impressions) == 2  # nothing names it


def test_places_in_a_list_count_holes(tmp_path: Path) -> None:
    columns = {"impression_id": {"template": "{position}"}, "ad_id": {"from": "ads"}}
    used = contract(columns, landing={"explode": {"column": "ads", "separator": "|"}})
    impressions, _ = read(tmp_path, "id,at,slot,ads,clicked\n1,2026-07-01 12:00:00,top,a||b||,0\n", used)
    assert list(impressions["impression_id"]) == ["1", "2", "3"]
    assert [len(reasons) for reasons in impressions["reasons"]] == [0, 1, 0]


def test_context_numbers_are_finite(tmp_path: Path) -> None:
    used = contract({}, context={"price": {"from": "price", "type": "float"}})
    impressions, _ = read(tmp_path, ROWS.replace("x", "inf"), used)
    assert list(impressions["reasons"][1]) == ["price cannot be read as a number"]


SETS: list[Any] = [["b", "a", "b"], ["a"], ["b"], [], None, ["a", None]]  # of an impression of `a`
READ = ['["a","b"]', '["a"]', '["b"]', "[]", None, None]
BAD = {2: "breaks the rule: ad_id is one of eligible_ads", 5: "eligible_ads cannot be read as a list of ids"}


def landed_sets(path: Path, kind: str, sets: list[Any]) -> None:
    rows = [
        {"id": str(place), "at": "2026-07-01 12:00:00", "slot": "top", "ad": "a", "clicked": "0", "pool": each}
        for place, each in enumerate(sets)
    ]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        pd.DataFrame(rows).to_csv(path, index=False)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_eligible_ads_are_a_list_of_ids_that_has_the_logged_ad(tmp_path: Path, kind: str) -> None:
    sets = [None if each is None else json.dumps(each) for each in SETS] if kind == "csv" else SETS
    landed_sets(tmp_path / "log", kind, sets)
    impressions, _ = parsed(tmp_path / "log", contract({"eligible_ads": {"from": "pool"}}, landing={"format": kind}))
    assert impressions["eligible_ads"].where(impressions["eligible_ads"].notna(), None).tolist() == READ
    reasons = {place: [*each] for place, each in enumerate(impressions["reasons"]) if len(each)}
    assert reasons == {place: [reason] for place, reason in (BAD | {3: BAD[2]}).items()}


def test_eligible_ads_in_text_have_a_separator(tmp_path: Path) -> None:
    landed_sets(tmp_path / "log", "csv", ["b|a|b", "a|", "b", "|", None, "a||b"])
    columns = {"eligible_ads": {"from": "pool", "separator": "|"}}
    impressions, _ = parsed(tmp_path / "log", contract(columns))
    found = impressions["eligible_ads"]
    assert found.where(found.notna(), None).tolist() == [*READ[:3], None, None, None]
    reasons = {place: [*each] for place, each in enumerate(impressions["reasons"]) if len(each)}
    assert reasons == {place: [reason] for place, reason in (BAD | {3: BAD[5]}).items()}


def test_eligible_ads_are_spelled_as_the_logged_ad_is(tmp_path: Path) -> None:
    path = tmp_path / "log"
    pq.write_table(
        pa.table({"id": ["1"], "at": ["2026-07-01"], "slot": ["x"], "ad": [7.0], "pool": [[8.0, 7.0]]}), path
    )
    of_parts = {"sql": "list_transform(pool, lambda each: slot || ':' || each::INTEGER)"}
    for ad_id, pool, expected in (
        ({"from": "ad"}, {"from": "pool"}, ["7", '["7","8"]']),
        ({"template": "{slot}:{ad}"}, of_parts, ["x:7", '["x:7","x:8"]']),
    ):
        columns = {"ad_id": ad_id, "eligible_ads": pool, "click": {"constant": 0}}
        impressions, _ = parsed(path, contract(columns, landing={"format": "parquet"}))
        assert impressions[["ad_id", "eligible_ads"]].to_numpy().tolist() == [expected]
        assert not len(impressions["reasons"][0])
