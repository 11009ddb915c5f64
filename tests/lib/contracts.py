"""The least that a contract must say, for the tests to say the rest."""

from collections.abc import Iterable
from typing import Any

from liftloop.contract.contract import Contract

REQUIRED = ("impression_id", "event_timestamp", "placement_id", "ad_id", "click")


def as_named(columns: Iterable[str]) -> dict[str, Any]:
    """Columns that are called the same in the log."""
    return {name: {"from": name} for name in columns}


def minimal_document(**changes: Any) -> dict[str, Any]:
    """A valid contract as its YAML file has it; `changes` replace whole sections of it."""
    return {
        "source": "shop",
        "description": "",
        "landing": {"path": "{day}.parquet", "format": "parquet"},
        "columns": as_named(REQUIRED),
        "keys": ["ad_id"],
        "objective": "clicks",
        "outcome": {"horizon": "1h"},
        "maturity": "1d",
        "split": {"validation": "1d", "holdout": "1d"},
    } | changes


def minimal_contract(**changes: Any) -> Contract:
    """A valid contract; `changes` replace whole sections of it."""
    return Contract.model_validate(minimal_document(**changes))


def short_names_document(**changes: Any) -> dict[str, Any]:
    """A minimal contract of a CSV log whose columns are `id,at,slot,ad,clicked`."""
    names = zip(REQUIRED, ("id", "at", "slot", "ad", "clicked"), strict=True)
    columns = {column: {"from": name} for column, name in names}
    landing = {"path": "{day}.csv", "format": "csv"}
    return minimal_document(**{"landing": landing, "columns": columns, "maturity": "30m"} | changes)
