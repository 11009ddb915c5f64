"""Reading what one decision needs, 1 user and 50 ads of ten features each: Feast's SDK and our reader.

    python -m bench.online_read [--rows 100000] [--reads 500]

Both ask the same stores, filled once, for the same keys; every read asks for other ads. Reads take turns.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import timedelta
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any

from feast import Entity, FeatureService, FeatureStore, ValueType
from redis import Redis

from bench.materialize import END, FEATURES, OUR_ENGINE, OUR_STORE, SPAN, config_of, make_view, write_table
from bench.measure import Case, report
from bench.redis_server import redis_server
from liftloop.feast_plugins.online_reader import FeatureRequest, OnlineReader, RedisReader, SqliteReader, ViewSchema

ROWS, READS, ADS = 100_000, 500, 50
GOAL = 0.5
FOR_EVER = timedelta()  # the SDK reads as of today, and the rows are older
KEYS = {"users": "user_id", "ads": "ad_id"}
SERVED = {name: ViewSchema(name, (key,), tuple(FEATURES), FOR_EVER) for name, key in KEYS.items()}
SERVICE = "decision"

_Read = Callable[[str, list[str]], Any]


def main(rows: int, reads: int) -> None:
    with tempfile.TemporaryDirectory(prefix="liftloop-bench-") as folder, redis_server(Path(folder)) as redis_port:
        home = Path(folder)
        for name, key in KEYS.items():
            write_table(home / f"{name}.parquet", rows, key)
        readers: dict[str, _Read] = {
            "Feast's SQLite": sdk(fill(home, {"type": "sqlite", "path": str(home / "peer.db")})),
            "SDK on our SQLite": sdk(fill(home, {"type": OUR_STORE, "path": str(home / "ours.db")})),
            "ours, embedded": direct(SqliteReader(home / "ours.db", "bench")),
        }
        if redis_port:
            redis = {"type": "redis", "connection_string": f"127.0.0.1:{redis_port}"}
            readers |= {"Feast's Redis": sdk(fill(home, redis))}
            readers |= {"ours, Redis": direct(RedisReader(Redis(port=redis_port), "bench"))}
        times = milliseconds(readers, rows, reads)
    cases = [
        Case(name, times[f"ours, {name}"], times[peer], GOAL, "ms")
        for name, peer in (("Redis", "Feast's Redis"), ("embedded", "Feast's SQLite"))
        if peer in times
    ]
    report("online_read", cases, p50_milliseconds={name: round(value, 3) for name, value in times.items()})


def fill(home: Path, online_store: dict[str, Any]) -> FeatureStore:
    config = config_of(home, OUR_ENGINE, online_store)
    config.registry.path = str(home / f"{online_store['type']}.db")
    feast = FeatureStore(config=config)
    entities = [Entity(name=key, join_keys=[key], value_type=ValueType.STRING) for key in KEYS.values()]
    views: list[Any] = [
        make_view(entity, home / f"{name}.parquet", name, FOR_EVER) for name, entity in zip(KEYS, entities, strict=True)
    ]
    feast.apply([*entities, *views, FeatureService(name=SERVICE, features=views)])
    with redirect_stdout(StringIO()):
        feast.materialize(END - SPAN, END)
    return feast


def sdk(feast: FeatureStore) -> _Read:
    service = feast.get_feature_service(SERVICE)

    def read(user: str, ads: list[str]) -> Any:
        rows = {"user_id": [user] * len(ads), "ad_id": ads}
        return feast.get_online_features(service, entity_rows=rows, full_feature_names=True).to_dict()

    return read


def direct(reader: OnlineReader) -> _Read:
    def read(user: str, ads: list[str]) -> Any:
        return reader.read(FeatureRequest(SERVED["users"], [user], 0), FeatureRequest(SERVED["ads"], ads, 0))

    return read


def milliseconds(readers: dict[str, _Read], rows: int, reads: int) -> dict[str, float]:
    """The median of each."""
    rng = random.Random(7)
    taken: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(reads):
        user, *ads = (f"key-{number:09}" for number in rng.sample(range(rows), ADS + 1))
        for name, read in readers.items():
            started = time.perf_counter()
            read(user, ads)
            taken[name].append(1_000 * (time.perf_counter() - started))
    return {name: median(each) for name, each in taken.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--reads", type=int, default=READS)
    arguments = parser.parse_args()
    main(arguments.rows, arguments.reads)
