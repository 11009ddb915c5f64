"""A small contract and its lake, for the tests of features."""

import io
from collections import defaultdict
from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lib.contracts import as_named, minimal_contract
from liftloop.contract.contract import Contract
from liftloop.storage.keys import impressions_prefix
from liftloop.storage.store import Store

KEYS = ("user_id", "ad_id")

_ARROW_TYPES = {
    "VARCHAR": pa.string(),
    "TIMESTAMPTZ": pa.timestamp("us", tz="UTC"),
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
}


def make_contract(source: str, *, horizon: str = "3d", keys: tuple[str, ...] = KEYS) -> Contract:
    mapped = ("impression_id", "event_timestamp", "placement_id", "click", "conversion", "revenue", *keys)
    return minimal_contract(
        source=source, columns=as_named({*mapped, "ad_id"}), keys=keys, outcome={"horizon": horizon}
    )


def impression(served: datetime, known: datetime | None = None, **values: Any) -> dict[str, Any]:
    """One canonical impression, by its columns that matter here."""
    row = {"user_id": "u0", "ad_id": "a0", "click": 0, "conversion": 0, "revenue": 0.0, "cost": 0.001}
    return row | {"event_timestamp": served, "outcome_timestamp": known or served} | values


def lake_table(contract: Contract, rows: list[dict[str, Any]]) -> pa.Table:
    """Impressions as a file of the lake holds them."""
    types = [(column, _ARROW_TYPES[kind]) for column, kind in contract.column_types.items()]
    return pa.Table.from_pylist(rows, schema=pa.schema(types))


def write_lake(store: Store, contract: Contract, rows: list[dict[str, Any]], name: str = "part") -> list[str]:
    """Put impressions where ingest puts them, one file for each day; returns the keys."""
    by_day: dict[date, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_day[row["event_timestamp"].date()].append(row)
    return [_put(store, contract, f"date={day}/{name}.parquet", part) for day, part in sorted(by_day.items())]


def _put(store: Store, contract: Contract, name: str, rows: list[dict[str, Any]]) -> str:
    body = io.BytesIO()
    pq.write_table(lake_table(contract, rows), body)
    return store.put(impressions_prefix(contract.source) + name, body.getvalue()).key
