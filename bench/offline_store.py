"""Historical features of three hourly views: our offline store, Feast's own on DuckDB, and one DuckDB query by hand.

    python -m bench.offline_store [--rows 100000] [--keys 2000]

On local Parquet files, one a day, because Feast's store downloads an extension to read S3; with a TTL of whole days,
because it takes no other. Memory is compared between a history of 60 days and one of 240: with the same rows of the
last 60, then with as many rows from all of it. (30 days are hardly more than one part, and none lie before them.)
"""

import argparse
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64, String

from bench.measure import Case, Sample, interleaved, report
from liftloop.feast_plugins.offline_store import AsofDuckDBOfflineStoreConfig

KEYS = ("ad_id", "site_id", "user_id")  # a view of each
FEATURES = ("impressions", "clicks", "rate", "revenue")
END = datetime(2026, 7, 1, tzinfo=UTC)
SHORT, MIDDLE, LONG = timedelta(days=30), timedelta(days=60), timedelta(days=240)
TIME_TO_LIVE = timedelta(days=7)
FASTER_GOAL, BY_HAND_GOAL, MEMORY_GOAL = 10, 1.5, 1.2


def main(rows: int, keys: int) -> None:
    with tempfile.TemporaryDirectory(prefix="liftloop-bench-") as name:
        speed = interleaved(_speed(Path(name), rows, keys))
        memory = interleaved(_memory(Path(name), rows, keys))
    report("offline_store", _cases(rows, speed, memory), rows=rows, keys=keys, seconds=_seconds(speed | memory))


def _speed(folder: Path, rows: int, keys: int) -> dict[str, Callable[[], None]]:
    _write_history(folder / "short", keys, SHORT)
    entities = _write_entities(folder / "short.parquet", rows, keys, SHORT)
    return {
        "ours": partial(_by_feast, _applied(folder, "short", _our_store()), entities),
        "feast": partial(_by_feast, _applied(folder, "short", {"type": "duckdb"}), entities),
        "by hand": partial(_by_hand, folder / "short", entities),
    }


def _memory(folder: Path, rows: int, keys: int) -> dict[str, Callable[[], None]]:
    _write_history(folder / "middle", keys, MIDDLE)
    _write_history(folder / "long", keys, LONG)
    middle, long = (_applied(folder, history, _our_store()) for history in ("middle", "long"))
    recent = _write_entities(folder / "middle.parquet", rows, keys, MIDDLE)
    throughout = _write_entities(folder / "long.parquet", rows, keys, LONG)
    return {
        "60 days": partial(_by_feast, middle, recent),
        "240 days": partial(_by_feast, long, recent),
        "240 days, rows of all": partial(_by_feast, long, throughout),
    }


def _our_store() -> dict[str, Any]:
    return {"type": AsofDuckDBOfflineStoreConfig().type}


def _write_history(folder: Path, keys: int, span: timedelta) -> None:
    """Each key has a row in each hour."""
    for key in KEYS:
        for day in range(span.days):
            start = END - timedelta(days=day + 1)
            file = folder / f"{key}/date={start:%F}/features.parquet"
            file.parent.mkdir(parents=True)
            values = ", ".join(f"random() AS {feature}" for feature in FEATURES)
            duckdb.execute(
                f"COPY (SELECT 'value-' || number AS {key}, $start + to_hours(hour) AS event_timestamp, {values}"
                f" FROM range(24) AS hours(hour), range($keys) AS keys(number)) TO '{file}'",
                {"start": start, "keys": keys},
            )


def _write_entities(file: Path, rows: int, keys: int, span: timedelta) -> Path:
    rng = np.random.default_rng(5)
    seconds = rng.integers(0, int(span.total_seconds()), rows)
    times = pd.Timestamp(END - span) + pd.to_timedelta(seconds, "s")
    values = {key: [f"value-{number}" for number in rng.integers(0, keys, rows)] for key in KEYS}
    pd.DataFrame({**values, "event_timestamp": times.astype("datetime64[us, UTC]")}).to_parquet(file)
    return file


def _by_feast(config: RepoConfig, entities: Path) -> None:
    features = [f"by_{key}:{feature}" for key in KEYS for feature in FEATURES]
    rows = pd.read_parquet(entities)
    FeatureStore(config=config).get_historical_features(rows, features, full_feature_names=True).to_df()


def _applied(folder: Path, history: str, offline_store: dict[str, Any]) -> RepoConfig:
    """Feast on that offline store, which knows the views of a history."""
    home = Path(tempfile.mkdtemp(dir=folder))
    config = RepoConfig(
        project="bench",
        provider="local",
        registry=str(home / "registry.db"),
        offline_store=offline_store,
        online_store={"type": "sqlite", "path": str(home / "online.db")},
        entity_key_serialization_version=3,
    )
    entities = {key: Entity(name=key, value_type=ValueType.STRING) for key in KEYS}
    views = [_view(folder / history, entity) for entity in entities.values()]
    FeatureStore(config=config).apply([*entities.values(), *views])
    return config


def _view(folder: Path, entity: Entity) -> FeatureView:
    return FeatureView(
        name=f"by_{entity.name}",
        entities=[entity],
        schema=[Field(name=entity.name, dtype=String), *(Field(name=feature, dtype=Float64) for feature in FEATURES)],
        source=FileSource(path=f"{folder / entity.name}/*/features.parquet", timestamp_field="event_timestamp"),
        ttl=TIME_TO_LIVE,
    )


def _by_hand(history: Path, entities: Path) -> None:
    """What one would write for just these tables."""
    columns, joins = [], []
    days = TIME_TO_LIVE.days
    for key in KEYS:
        is_alive = f"{key}_rows.event_timestamp >= entities.event_timestamp - to_days({days})"
        columns += [f"CASE WHEN {is_alive} THEN {key}_rows.{name} END AS by_{key}__{name}" for name in FEATURES]
        joins.append(
            f"ASOF LEFT JOIN '{history}/{key}/*/features.parquet' AS {key}_rows ON"
            f" entities.{key} = {key}_rows.{key} AND entities.event_timestamp >= {key}_rows.event_timestamp"
        )
    with duckdb.connect() as connection:
        connection.register("entities", pd.read_parquet(entities).reset_index(names="row"))
        query = f"SELECT entities.*, {', '.join(columns)} FROM entities {' '.join(joins)} ORDER BY row"
        connection.execute(query).df()


def _cases(rows: int, speed: dict[str, Sample], memory: dict[str, Sample]) -> list[Case]:
    ours, feast, by_hand = (speed[name].seconds for name in ("ours", "feast", "by hand"))
    short, *longer = ((name, sample.peak_bytes / 2**20) for name, sample in memory.items())
    return [
        Case("Feast's duckdb store", rows / ours, rows / feast, FASTER_GOAL, "rows/s", is_rate=True),
        Case("ASOF join by hand", ours, by_hand, BY_HAND_GOAL, "s"),
        *(Case(f"peak memory, {name} / {short[0]}", peak, short[1], MEMORY_GOAL, "MiB") for name, peak in longer),
    ]


def _seconds(samples: dict[str, Sample]) -> dict[str, float]:
    return {name: round(sample.seconds, 3) for name, sample in samples.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--keys", type=int, default=2_000)
    main(**vars(parser.parse_args()))
