"""Tiles and feature tables on the workers of a Dask scheduler: the same bytes, and a lost worker costs little."""

# mypy: allow-untyped-calls

import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from threading import Thread
from time import monotonic, sleep
from uuid import uuid4

import pytest
from distributed import Client, LocalCluster
from lib.feature_lake import impression, make_contract, write_lake

from liftloop.contract.contract import Contract
from liftloop.features.tiles import update_tiles
from liftloop.features.windows import update_feature_tables
from liftloop.settings import Settings
from liftloop.storage.store import Listed, Store

FIRST = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
DAYS = 24
KEY = "user_id"


@pytest.fixture
def contract() -> Contract:
    return make_contract(f"log_{uuid4().hex[:12]}", horizon="1d", keys=(KEY,))


@pytest.fixture
def store(object_store: Settings, contract: Contract) -> Store:
    """With a lake of a few thousand impressions a day."""
    store = Store(object_store)
    rows = [impression(FIRST + timedelta(days=day), user_id=f"u{n}") for day in range(DAYS) for n in range(500)]
    write_lake(store, contract, rows)
    return store


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:
        yield cluster


def on_cluster(store: Store, cluster: LocalCluster) -> Store:
    return Store(store.settings.model_copy(update={"dask_scheduler": cluster.scheduler_address}))


def partitions(store: Store, contract: Contract, table: str) -> dict[str, Listed]:
    return {item.key: item for item in store.list(f"{table}/{contract.source}/") if item.key.endswith(".parquet")}


def etags(store: Store, contract: Contract) -> dict[str, str]:
    return {
        key: item.etag for table in ("tiles", "features") for key, item in partitions(store, contract, table).items()
    }


def build(store: Store, contract: Contract) -> None:
    update_tiles(store, contract)
    update_feature_tables(store, contract)


def test_workers_write_the_same_bytes(store: Store, contract: Contract, cluster: LocalCluster) -> None:
    build(store, contract)
    here = etags(store, contract)
    store.delete([item.key for table in ("tiles", "features") for item in store.list(f"{table}/{contract.source}/")])
    scattered = on_cluster(store, cluster)
    step = update_tiles(scattered, contract)
    update_feature_tables(scattered, contract)
    assert etags(store, contract) == here
    assert len(here) == 2 * DAYS
    assert step.metrics["partitions_built"] == len(step.outputs) == DAYS
    assert update_tiles(store, contract).is_reused


def kill_when_some_are_done(store: Store, contract: Contract, cluster: LocalCluster, done: dict[str, Listed]) -> None:
    with Client(cluster) as client:
        (victim, _) = client.run(os.getpid).values()
        deadline = monotonic() + 300
        while not done and monotonic() < deadline:
            done |= partitions(store, contract, "tiles")
            sleep(0.01)
        os.kill(victim, signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_worker_costs_only_what_it_had_not_finished(
    store: Store, contract: Contract, cluster: LocalCluster
) -> None:
    done: dict[str, Listed] = {}
    killer = Thread(target=kill_when_some_are_done, args=[store, contract, cluster, done])
    killer.start()
    step = update_tiles(on_cluster(store, cluster), contract)
    killer.join()
    found = partitions(store, contract, "tiles")
    assert 0 < len(done) < DAYS == len(found)
    assert {key: found[key].modified for key in done} == {key: item.modified for key, item in done.items()}
    assert update_tiles(store, contract).is_reused
    store.delete([item.key for item in store.list(f"tiles/{contract.source}/")])
    update_tiles(store, contract)
    assert {key: item.etag for key, item in partitions(store, contract, "tiles").items()} == {
        key: item.etag for key, item in found.items()
    }
    assert step.metrics["partitions_built"] <= DAYS
