"""Contracts load, or say which key of which file is wrong and what would be right."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from lib.contracts import short_names_document

from liftloop.contract.loading import ContractError, declared_sources, load_contract


def write(folder: Path, changes: dict[str, Any]) -> None:
    contract = short_names_document()
    for dotted, value in changes.items():
        *parents, last = dotted.split(".")
        place = contract
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    (folder / "shop.yaml").write_text(yaml.safe_dump(contract))


def test_loads_with_defaults(tmp_path: Path) -> None:
    write(tmp_path, {})
    contract = load_contract("shop", tmp_path)
    assert contract.maturity == timedelta(minutes=30)
    assert contract.deduplicate_by == ("impression_id",)
    assert list(contract.column_types)[:2] == ["impression_id", "event_timestamp"]


@pytest.mark.parametrize(
    ("line", "words"),
    [("maturity: 2d", "['maturity'] appear more than once"), ("yes: 1", "yes: 1: unknown key")],
)
def test_yaml_is_not_overruled_in_silence(tmp_path: Path, line: str, words: str) -> None:
    write(tmp_path, {})
    with (tmp_path / "shop.yaml").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(ContractError, match=re.escape(words)):
        load_contract("shop", tmp_path)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *[(text, text) for text in ("yes", "off", "007", "1:30", "12:30.5", "1_000.5", "2026-01-01", "=", "true_ad")],
        *[("-5", -5), ("0", 0), ("0.5", 0.5), ("1e3", 1000.0), ("+.5", 0.5)],
    ],
)
def test_plain_values_are_those_of_yaml_1_2(tmp_path: Path, written: str, value: object) -> None:
    write(tmp_path, {"columns.ad_id": {"constant": "as written"}})
    file = tmp_path / "shop.yaml"
    file.write_text(file.read_text().replace("as written", written))
    assert load_contract("shop", tmp_path).columns["ad_id"].constant == value


CLICKS = {
    "path": "clicks/{day}.csv",
    "format": "csv",
    "columns": {"impression_id": {"from": "id"}, "click": {"constant": 1}},
}


@pytest.mark.parametrize("source", declared_sources())
def test_every_declared_contract_loads(source: str) -> None:
    assert load_contract(source).source == source


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": "red"}, ["shop.yaml: colour", "'red'", "unknown key", "columns"]),
        ({"landing.separator": ";"}, ["landing.separator", "unknown key", "delimiter"]),
        ({"landing.format": "xml"}, ["landing.format", "'xml'", "csv", "parquet"]),
        ({"landing.encoding": "ebcdic"}, ["landing.encoding", "'ebcdic'", "latin-1"]),
        ({"maturity": "soon"}, ["maturity", "'soon'", "30m or 2d"]),
        ({"maturity": -5}, ["maturity", "-5", "30m or 2d"]),
        ({"maturity": "99999d"}, ["maturity", "'99999d'", "at most 3650d"]),
        ({"landing_delay": "90m"}, ["landing_delay", "'90m'", "no whole number of hours", "write 2h"]),
        ({"landing_delay": "8d"}, ["landing_delay", "'8d'", "less than or equal"]),
        ({"landing_delay": "late"}, ["landing_delay", "'late'", "30m or 2d"]),
        ({"split.holdout": "0d"}, ["split.holdout", "'0d'", "greater than"]),
        ({"keys": []}, ["keys", "at least 1"]),
        ({"keys": ["ad_id", "ad_id"]}, ["keys", "['ad_id'] appear more than once"]),
        ({"gate.slices": ["click"]}, ["slices names ['click']"]),
        ({"gate.calibration_ratio": [1.25, 0.8]}, ["gate.calibration_ratio", "the lower one first"]),
        ({"gate.slice_calibration_ratio": [0, 2]}, ["gate.slice_calibration_ratio", "above 0"]),
        ({"gate.calibration_ratio": [float("nan"), 2]}, ["gate.calibration_ratio", "above 0"]),
        ({"columns.event_timestamp.zone": "Mars/Olympus"}, ["zone", "'Mars/Olympus'", "Europe/Berlin"]),
        ({"columns.click": {"from": "a", "constant": 1}}, ["columns.click", "exactly one of"]),
        ({"columns.banner": {"from": "b"}}, ["['banner'] are not canonical", "impression_id"]),
        ({"keys": ["user_id"]}, ["['user_id'] are required and not mapped"]),
        ({"keys": ["shoe_size"]}, ["keys.0", "'shoe_size'", "ad_id"]),
        ({"reward": "smile"}, ["reward", "'smile'", "conversion"]),
        ({"context.click": {"from": "x", "type": "float"}}, ["['click'] have names of canonical columns"]),
        ({"context.mood": {"from": "x"}}, ["context.mood.type", "Field required"]),
        ({"context.mood": {"from": "x", "type": "float", "about": "weather"}}, ["about", "'weather'", "'pair'"]),
        ({"context.price[eur]": {"from": "p", "type": "float"}}, ["price[eur]", "price_eur: {from: 'price[eur]'}"]),
        ({"context.Click": {"from": "x", "type": "float"}}, ["['Click'] have names of canonical columns"]),
        ({"context.rank": {"from": "x", "type": "float"}}, ["['rank'] are names that tables of ours use"]),
        ({"landing.path": "{day}/{day}.csv"}, ["landing.path", "['day'] appear more than once"]),
        ({"landing.path": "{day/x.csv"}, ["landing.path", "'{day/x.csv'", "pair of braces"]),
        ({"landing.path": "{the day}.csv"}, ["landing.path", "['the day'] are not names"]),
        ({"landing.header": ["a", "a"]}, ["header names ['a'] more than once"]),
        ({"landing.thousands": "."}, ["decimal and thousands are both '.'"]),
        ({"landing": {"path": "a", "format": "csv", "quote": "«"}}, ["landing.quote", "'«'"]),
        ({"landing": {"path": "a", "format": "csv", "delimiter": '"'}}, ["delimiter and quote are both '\"'"]),
        ({"landing.format": "parquet", "landing.delimiter": ";"}, ["['delimiter'] mean nothing in parquet files"]),
        ({"columns.placement_id": {"template": "{a}:{b"}}, ["placement_id.template", "pair of braces"]),
        ({"columns.ad_id": {"from": "a", "scale": 2}}, ["ad_id: scale means nothing for text"]),
        (
            {"columns.click": {"from": "a", "zone": "Europe/Berlin"}},
            ["click: ['zone'] mean nothing for a whole number"],
        ),
        ({"columns.event_timestamp.time": "yyyy-qq"}, ["event_timestamp.time", "'qq' has no meaning", "yyyy-MM-dd"]),
        ({"columns.event_timestamp.time": "HH:mm"}, ["a pattern names year, month and day"]),
        ({"columns.event_timestamp.since": "2020-01-01T00:00:00Z"}, ["since is the start of an epoch"]),
        (
            {"lookups": {"ads": {"path": "{shop}.csv", "format": "csv", "match": {"a": "a"}}}},
            ["lookups.ads.path names ['shop']"],
        ),
        ({"choose_among": "planet"}, ["choose_among names ['planet']", "placement_id"]),
        ({"gate.slices": ["planet"]}, ["slices names ['planet']"]),
        ({"gate.confidence": 2}, ["gate.confidence", "2", "less than 1"]),
        ({"quarantine_share_limit": 1.5}, ["quarantine_share_limit", "1.5", "less than or equal to 1"]),
        (
            {"schedules": {"train": "0 25 * * *"}},
            ["schedules.train", "'0 25 * * *'", "bad hour", "none, hourly, daily"],
        ),
        ({"schedules": {"train": "nightly"}}, ["schedules.train", "'nightly'", "a cron of five fields"]),
        ({"schedules": {"evaluate": None}}, ["schedules.evaluate", "None", "none, hourly, daily"]),
        ({"schedules": {"timezone": "Mars/Olympus"}}, ["schedules.timezone", "'Mars/Olympus'", "Europe/Berlin"]),
        ({"schedules": {"verify": "daily"}}, ["schedules.verify", "unknown key", "evaluate", "timezone", "train"]),
        ({"objective": "revenue"}, ["objective: 'revenue'", "['revenue']", "not mapped"]),
        ({"kpi": "revenue_per_mille"}, ["kpi: 'revenue_per_mille'", "['revenue']", "not mapped"]),
        ({"objective": "profit"}, ["objective", "'profit'", "clicks", "margin"]),
        ({"objective": "clicks", "reward": "conversion", "columns.conversion": {"from": "c"}}, ["reward: click"]),
        (
            {
                "objective": "conversions",
                "columns.conversion": {"from": "c"},
                "outcome": {"horizon": "1h", "conversion_requires_click": False},
            },
            ["objective: conversions", "set reward: conversion"],
        ),
        ({"columns.bid": {"from": "b"}}, ["columns.bid", "pricing and bid", "map both"]),
        ({"columns.ad_id.separator": ","}, ["ad_id: separator means nothing for a single value"]),
        ({"amounts": {"minimum": 5, "maximum": 2}}, ["amounts", "the lower one first"]),
        ({"outcome": {"horizon": "1h", "delay": "2h"}}, ["outcome.horizon", "shorter than outcome.delay"]),
        ({"outcome": {"horizon": "9d", "delay": "8d"}}, ["maturity", "shorter than outcome.delay"]),
        (
            {"columns.outcome_timestamp": {"from": "t"}, "outcome": {"horizon": "9d"}},
            ["maturity", "shorter than outcome.horizon", "raise it"],
        ),
        (
            {"outcome_files": {"clicks": CLICKS | {"columns": {"click": {"constant": 1}}}}},
            ["columns are impression_id"],
        ),
        ({"outcome_files": {"clicks": CLICKS}}, ["outcome_files.clicks: ['click'] are also in columns"]),
        ({"columns.event_timestamp.time": "yyyy-MM-dd hh:mm"}, ["hh counts to 12", "HH counts to 24"]),
        ({"columns.revenue": {"from": "c", "scale": 0}}, ["columns.revenue.scale", "other than 0"]),
        ({"context.rowid": {"from": "x", "type": "string"}}, ["['rowid'] are names that tables of ours use"]),
        ({"landing.path": "*.csv"}, ["landing.path", "['*'] match only themselves", "{name}"]),
        ({"landing.path": "landing/shop/{day}.csv"}, ["landing.path", "starts below landing/"]),
        ({"landing.header": ["id", "ID"]}, ["header names ['id'] more than once"]),
        ({"amounts": {"maximum": 1e31}}, ["amounts", "within 1e+15"]),
        ({"landing.explode": {"column": "x", "by": ","}}, ["landing.explode.by", "unknown key", "separator"]),
        ({"source": "Shop!"}, ["source", "'Shop!'"]),
        ({"source": "other"}, ["source", "'other'", "must equal the file's name"]),
    ],
)
def test_names_file_key_value_and_remedy(tmp_path: Path, changes: dict[str, Any], words: list[str]) -> None:
    write(tmp_path, changes)
    with pytest.raises(ContractError) as caught:
        load_contract("shop", tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "shop.yaml"))
    assert [word for word in words if word not in str(caught.value)] == []


def test_undeclared_source_lists_the_declared(tmp_path: Path) -> None:
    write(tmp_path, {})
    with pytest.raises(ContractError, match=r"'market' is not declared .*\['shop'\]"):
        load_contract("market", tmp_path)


def test_broken_yaml(tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text("a: [")
    with pytest.raises(ContractError, match=r"shop\.yaml: not readable as YAML"):
        load_contract("shop", tmp_path)


def test_path_parts(tmp_path: Path) -> None:
    write(tmp_path, {"landing.path": "{policy}/{day}.csv.gz"})
    landing = load_contract("shop", tmp_path).landing
    assert landing.path_parts("random/2026-01-05.csv.gz") == {"policy": "random", "day": "2026-01-05"}
    assert landing.path_parts("random/2026-01-05xcsv.gz") is None
    assert landing.path_parts("a/b/c.csv.gz") is None
