"""Contracts load, or say which key of which file is wrong and what would be right."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from lib.contracts import short_names_document

from liftloop.contract.contract import ContractError, declared_sources, load_contract


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


@pytest.mark.parametrize("source", declared_sources())
def test_every_declared_contract_loads(source: str) -> None:
    assert load_contract(source).source == source


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": "red"}, ["shop.yaml: colour", "'red'", "unknown key", "columns"]),
        ({"landing.delimiter": ";"}, ["landing.delimiter", "unknown key", "encoding"]),
        ({"landing.format": "xml"}, ["landing.format", "'xml'", "csv", "parquet"]),
        ({"landing.encoding": "ebcdic"}, ["landing.encoding", "'ebcdic'", "latin-1"]),
        ({"maturity": "soon"}, ["maturity", "'soon'", "30m or 2d"]),
        ({"maturity": -5}, ["maturity", "-5", "30m or 2d"]),
        ({"maturity": "99999d"}, ["maturity", "'99999d'", "at most 3650d"]),
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
        ({"choose_among": "planet"}, ["choose_among names ['planet']", "placement_id"]),
        ({"gate.slices": ["planet"]}, ["slices names ['planet']"]),
        ({"gate.confidence": 2}, ["gate.confidence", "2", "less than 1"]),
        ({"quarantine_share_limit": 1.5}, ["quarantine_share_limit", "1.5", "less than or equal to 1"]),
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
