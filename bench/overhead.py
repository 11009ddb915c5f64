"""What the loop costs beside its computations: its wall time over the sum of what its steps take when called bare.

    python -m bench.overhead [--impressions N]

From the first landed file to the champion: events, processes and their imports, records, and the answers of the store
are the loop's; the same functions, one after the other in one process that has imported everything, are the peer.
"""

import argparse
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.measure import Case, report
from bench.own_stack import own_stack, simulated_files, wait_for_rest
from liftloop.contract.loading import load_contract
from liftloop.datasets.simulated import SimulationSettings
from liftloop.features import skew, tiles, windows
from liftloop.features.materialize import update_online_store
from liftloop.gate.judge import judge
from liftloop.gate.promotion import promote_judged
from liftloop.lake.lake import Lake
from liftloop.landing import validation
from liftloop.landing.ingest import ingest_batch, pending_batches
from liftloop.settings import Settings
from liftloop.stack.standalone_store import standalone_object_store
from liftloop.storage.runs import read_manifests
from liftloop.storage.store import Store, land
from liftloop.training.frame_builder import build_frame
from liftloop.training.train import train

SOURCE = "simulated"
FLOWS = ("ingest", "materialize", "train")
DAYS, SEED = 14, 7
GOAL = 1.25
S3_PORT = 14_310
LIMIT_SECONDS = 1800

Files = list[tuple[str, bytes]]

assert validation.__name__  # imported before the clock starts, as Feast is by the online store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--impressions", type=int, default=1_000_000)
    impressions = parser.parse_args().impressions
    files = simulated_files(SimulationSettings(impressions=impressions, days=DAYS, seed=SEED))
    loop = _run_loop(files)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        bare = pool.submit(_run_bare, files).result()
    _report(loop, bare, impressions)


def _run_loop(files: Files) -> dict[str, float]:
    """By flow, the seconds until its first line, and those of its work."""
    with own_stack() as settings:
        store, moment = Store(settings), datetime.now(UTC)
        for key, body in files:
            land(store, SOURCE, key, body)
        wait_for_rest(store, SOURCE, LIMIT_SECONDS)
        seconds: dict[str, float] = {}
        for run in read_manifests(store, since=moment):
            assert run.ended_at is not None  # the loop rests
            starts, works = f"{run.flow}: until it starts", f"{run.flow}: its work"
            seconds[starts] = seconds.get(starts, 0) + (run.started_at - moment).total_seconds()
            seconds[works] = seconds.get(works, 0) + (run.ended_at - run.started_at).total_seconds()
            moment = run.ended_at
        return seconds


def _run_bare(files: Files) -> dict[str, float]:
    """By step, its seconds."""
    with (
        tempfile.TemporaryDirectory(prefix="liftloop-bench-") as home,
        standalone_object_store(Settings(home=Path(home), s3_port=S3_PORT)) as settings,
    ):
        store, contract, clock = Store(settings), load_contract(SOURCE), _Clock()
        for key, body in files:
            land(store, SOURCE, key, body)
        lake = Lake(store, contract)
        for batch in list(pending_batches(lake)):
            clock.take("ingest: batches", ingest_batch, lake, batch)
        clock.take("materialize: tiles", tiles.update_tiles, store, contract)
        clock.take("materialize: feature tables", windows.update_feature_tables, store, contract)
        clock.take("materialize: online store", update_online_store, store, contract)
        clock.take("materialize: skew", skew.find_skew, store, contract)
        frame = clock.take("train: frame", build_frame, store, contract)
        version = clock.take("train: model", train, store, contract, frame)
        verdict = clock.take("train: verdict", judge, store, contract, version, None)
        clock.take("train: promotion", promote_judged, store, verdict, None, "bench")
        return clock.seconds


class _Clock:
    """Seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def take(self, step: str, run: Callable[..., Any], *arguments: Any) -> Any:
        started = perf_counter()
        result = run(*arguments)
        self.seconds[step] = self.seconds.get(step, 0) + perf_counter() - started
        return result


def _report(loop: dict[str, float], bare: dict[str, float], impressions: int) -> None:
    for flow in FLOWS:
        for name, seconds in (("the loop", loop), ("bare", bare)):
            for step in (step for step in seconds if step.startswith(flow)):
                print(f"{name:<10}{step:<32}{seconds[step]:8.2f} s")
    case = Case(f"{impressions:,} impressions", sum(loop.values()), sum(bare.values()), GOAL, "s")
    split = {name: round(seconds, 2) for name, seconds in (loop | bare).items()}
    report("overhead", [case], split=split)


if __name__ == "__main__":
    main()
