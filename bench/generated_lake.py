"""A lake of any size for benchmarks: canonical impressions made by DuckDB alone, the same bytes every time."""

import tempfile
from datetime import date, timedelta
from pathlib import Path

from liftloop.contract.contract import Contract
from liftloop.contract.loading import load_contract
from liftloop.storage.duckdb import connect, literal, quoted
from liftloop.storage.keys import impressions_prefix
from liftloop.storage.store import Store

FIRST_DAY = date(2025, 1, 1)
USERS, ADS, PLACEMENTS = 20_000, 400, 40

# Impressions over the day, most of few users and ads; a click in 50, known within half an hour; a sale in ten of those.
_IMPRESSIONS = """
    SELECT 'i' || {day} || '-' || number AS impression_id,
           DATE '{date}'::TIMESTAMPTZ + to_microseconds((86400000000 * number / {rows})::BIGINT) AS event_timestamp,
           'p' || (hash(number, {day}, 1) % {placements}) AS placement_id,
           'a' || (({ads} * pow(hash(number, {day}, 2) % 1000000 / 1e6, 2))::BIGINT) AS ad_id,
           'u' || (({users} * pow(hash(number, {day}, 3) % 1000000 / 1e6, 2))::BIGINT) AS user_id,
           (hash(number, {day}, 4) % 50 = 0)::BIGINT AS click,
           (hash(number, {day}, 4) % 500 = 0)::BIGINT AS conversion,
           CASE WHEN conversion = 1 THEN (hash(number, {day}, 5) % 1000) / 100 ELSE 0 END AS revenue,
           0.001 AS cost,
           event_timestamp + to_seconds(click * (hash(number, {day}, 6) % 1800)::BIGINT) AS outcome_timestamp
    FROM range({rows}) AS t(number)
"""


def generated_contract(source: str) -> Contract:
    """The simulated publisher's, for a source of this name."""
    return load_contract("simulated").model_copy(update={"source": source})


def lake_key(source: str, day: int) -> str:
    return f"{impressions_prefix(source)}date={FIRST_DAY + timedelta(days=day - 1)}/generated.parquet"


def put_days(store: Store, source: str, days: range, rows_per_day: int) -> None:
    """Put these days, counted from 1, where ingest would have put them."""
    with tempfile.TemporaryDirectory(prefix="liftloop-") as folder, connect(store.settings) as connection:
        for day in days:
            path = Path(folder) / f"{day}.parquet"
            numbers = {"rows": rows_per_day, "users": USERS, "ads": ADS, "placements": PLACEMENTS}
            query = _IMPRESSIONS.format(day=day, date=FIRST_DAY + timedelta(days=day - 1), **numbers)
            columns = ", ".join(_column(name, kind) for name, kind in generated_contract(source).column_types.items())
            rows = f"SELECT {columns} FROM ({query}) ORDER BY event_timestamp, impression_id"
            connection.execute(f"COPY ({rows}) TO {literal(path)} (FORMAT parquet, COMPRESSION zstd)")
            store.put(lake_key(source, day), path.read_bytes())
            path.unlink()


_GENERATED = {
    "impression_id", "event_timestamp", "placement_id", "ad_id", "user_id",
    "click", "conversion", "revenue", "cost", "outcome_timestamp",
}  # fmt: skip


def _column(name: str, kind: str) -> str:
    return f"{quoted(name) if name in _GENERATED else 'NULL'}::{kind} AS {quoted(name)}"
