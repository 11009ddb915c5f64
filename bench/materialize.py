"""Materialization of a view of ten features, end to end, with Feast's own engine and with ours.

    python -m bench.materialize [--rows 1000000] [--rounds 3]

On Redis both write the same bytes; on the embedded store Feast's engine fills Feast's SQLite store, and ours ours.
Both read the same Parquet file through the same offline store, and every round fills an empty store.
"""

import argparse
import tempfile
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64, String
from redis import Redis

from bench.measure import ROUNDS, Case, interleaved, report
from bench.redis_server import redis_server
from liftloop.feast_plugins.batch_engine import ArrowComputeEngine
from liftloop.feast_plugins.offline_store import AsofDuckDBOfflineStore
from liftloop.feast_plugins.online_store import WideSqliteOnlineStore

ROWS = 1_000_000
FEATURES = [f"feature_{number}" for number in range(10)]
REDIS_GOAL, EMBEDDED_GOAL = 8, 10
END = datetime(2026, 3, 8, tzinfo=UTC)
SPAN = timedelta(days=7)
ROWS_PER_WRITE = 10_000  # of Feast's own engine; all at once would need many times the memory

OUR_ENGINE = f"{ArrowComputeEngine.__module__}.{ArrowComputeEngine.__name__}"
OUR_STORE = f"{WideSqliteOnlineStore.__module__}.{WideSqliteOnlineStore.__name__}"


def main(rows: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="liftloop-bench-") as folder, redis_server(Path(folder)) as redis_port:
        home = Path(folder)
        write_table(home / "features.parquet", rows)
        contestants = {
            "Feast, embedded": partial(run, home, "local", {"type": "sqlite", "path": str(home / "peer.db")}),
            "ours, embedded": partial(run, home, OUR_ENGINE, {"type": OUR_STORE, "path": str(home / "ours.db")}),
        }
        if redis_port:
            redis = {"type": "redis", "connection_string": f"127.0.0.1:{redis_port}", "skip_dedup": True}
            contestants |= {
                "Feast, Redis": partial(run, home, "local", redis),
                "ours, Redis": partial(run, home, OUR_ENGINE, redis),
            }
        samples = interleaved(contestants, rounds)
    goals = {"Redis": REDIS_GOAL, "embedded": EMBEDDED_GOAL}
    rates = {name: rows / sample.seconds for name, sample in samples.items()}
    cases = [
        Case(store, rates[f"ours, {store}"], rates[f"Feast, {store}"], goal, "rows/s", is_rate=True)
        for store, goal in goals.items()
        if f"ours, {store}" in rates
    ]
    peak = {name: sample.peak_bytes for name, sample in samples.items()}
    report("materialize", cases, rows=rows, rounds=rounds, peak_bytes=peak)


def write_table(path: Path, rows: int, key: str = "ad_id") -> None:
    """One row a key, each at an hour of the week."""
    rng = np.random.default_rng(7)
    hours = rng.integers(1, int(SPAN.total_seconds() // 3600), rows)
    columns: dict[str, Any] = {name: rng.random(rows) for name in FEATURES}
    columns[key] = [f"key-{number:09}" for number in rng.permutation(rows)]
    times = np.datetime64(END.replace(tzinfo=None), "us") - hours.astype("timedelta64[h]")
    columns["event_timestamp"] = pa.array(times).cast(pa.timestamp("us", tz="UTC"))
    pq.write_table(pa.table(columns), path)


def run(home: Path, engine: str, online_store: dict[str, Any]) -> None:
    """Fill an empty online store."""
    if "path" in online_store:
        for file in home.glob(f"{Path(online_store['path']).name}*"):
            file.unlink()
    else:
        Redis.from_url(f"redis://{online_store['connection_string']}").flushall()
    (home / "registry.db").unlink(missing_ok=True)
    feast = FeatureStore(config=config_of(home, engine, online_store))
    ad = Entity(name="ad_id", join_keys=["ad_id"], value_type=ValueType.STRING)
    feast.apply([ad, make_view(ad, home / "features.parquet")])
    with redirect_stdout(StringIO()):
        feast.materialize(END - SPAN, END)


def config_of(home: Path, engine: str, online_store: dict[str, Any]) -> RepoConfig:
    return RepoConfig(
        project="bench",
        provider="local",
        registry=str(home / "registry.db"),
        offline_store={
            "type": f"{AsofDuckDBOfflineStore.__module__}.{AsofDuckDBOfflineStore.__name__}",
        },
        batch_engine={"type": engine},
        online_store=online_store,
        materialization={"pull_latest_features": True, "online_write_batch_size": ROWS_PER_WRITE},
        entity_key_serialization_version=3,
    )


def make_view(entity: Entity, path: Path, name: str = "ads", ttl: timedelta = SPAN) -> FeatureView:
    features = [Field(name=feature, dtype=Float64) for feature in FEATURES]
    return FeatureView(
        name=name,
        entities=[entity],
        schema=[Field(name=entity.join_key, dtype=String), *features],
        source=FileSource(name=name, path=str(path), timestamp_field="event_timestamp"),
        ttl=ttl,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    main(arguments.rows, arguments.rounds)
