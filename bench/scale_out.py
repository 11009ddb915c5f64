"""Tiles and feature tables on two Dask workers, each a process with a core of its own, against one such worker.

`python -m bench.scale_out [--rows N] [--days N]`; the object store, the scheduler and this process use the same cores.
"""

# mypy: allow-untyped-calls

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

from distributed import Client, LocalCluster

from bench.generated_lake import generated_contract, put_days
from bench.measure import ROUNDS, Case, console, report
from liftloop.compute.cluster import LOOPBACK
from liftloop.features.tiles import update_tiles
from liftloop.features.windows import update_feature_tables
from liftloop.settings import Settings
from liftloop.stack.standalone_store import standalone_object_store
from liftloop.storage.store import Store

GOAL = 1.7
S3_PORT = 14_220
SOURCE = "generated"
Hashes = dict[str, str]


def main() -> None:
    arguments = _arguments()
    seconds: dict[int, list[float]] = {1: [], 2: []}
    hashes: list[Hashes] = []
    with tempfile.TemporaryDirectory(prefix="liftloop-") as home, ExitStack() as stack:
        settings = stack.enter_context(standalone_object_store(Settings(home=Path(home), s3_port=S3_PORT)))
        put_days(Store(settings), SOURCE, range(1, arguments.days + 1), arguments.rows // arguments.days)
        clusters = {count: stack.enter_context(one_core_workers(count, settings)) for count in seconds}
        for number in range(1, ROUNDS + 1):
            for count, cluster in clusters.items():
                seconds[count].append(_build(cluster))
                hashes.append(_hashes(cluster))
                console.print(f"round {number}  {count} workers  {seconds[count][-1]:6.2f} s")
    rates = {count: arguments.rows / median(each) for count, each in seconds.items()}
    case = Case("two one-core workers vs one", rates[2], rates[1], GOAL, "impressions/s", is_rate=True)
    is_identical = all(found == hashes[0] for found in hashes)
    report("scale_out", [case], rounds=ROUNDS, partitions=len(hashes[0]), is_identical=is_identical)


@contextmanager
def one_core_workers(count: int, settings: Settings) -> Iterator[Settings]:
    """Settings that name a scheduler with so many workers, the first on the first core and so on."""
    cores = sorted(os.sched_getaffinity(0))[:count]
    no_dashboard = {"dashboard": False, "dashboard_address": f"{LOOPBACK}:0"}
    scheduler = LocalCluster(n_workers=0, host=LOOPBACK, dashboard_address=None, scheduler_kwargs=no_dashboard)
    with scheduler as cluster, Client(cluster) as client:
        address = cluster.scheduler_address
        command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
        workers = [
            subprocess.Popen(
                [*command, "--no-nanny", "--host", LOOPBACK, "--memory-limit", "0"],
                preexec_fn=partial(os.sched_setaffinity, 0, {core}),
                stderr=subprocess.DEVNULL,
            )
            for core in cores
        ]
        try:
            client.wait_for_workers(count, timeout=60)
            yield settings.model_copy(update={"dask_scheduler": address})
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()


def _build(settings: Settings) -> float:
    """Seconds from the lake to the feature tables, with nothing there before."""
    store, contract = Store(settings), generated_contract(SOURCE)
    store.delete([item.key for table in ("tiles", "features") for item in store.list(f"{table}/{SOURCE}/")])
    started = perf_counter()
    update_tiles(store, contract)
    update_feature_tables(store, contract)
    return perf_counter() - started


def _hashes(settings: Settings) -> Hashes:
    listed = (item for table in ("tiles", "features") for item in Store(settings).list(f"{table}/{SOURCE}/"))
    return {item.key: item.etag for item in listed if item.key.endswith(".parquet")}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000, help="impressions in all")
    parser.add_argument("--days", type=int, default=40)
    return parser.parse_args()


if __name__ == "__main__":
    main()
