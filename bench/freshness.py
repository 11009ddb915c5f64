"""From the PUT of a 10,000-row file to the first line of its ingest, and to its features in service.

    python -m bench.freshness

The peers are the objectives: 12 s and 30 s. A stack of its own, filled with six days of logs, gets one file a round.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

from bench.measure import Case, report
from liftloop.contract.contract import load_contract
from liftloop.datasets.simulated import SimulationSettings, simulate
from liftloop.operations.pending_work import next_stage
from liftloop.settings import Settings, load_settings
from liftloop.stack import down, initialise, up
from liftloop.stack.prefect_api import ask
from liftloop.storage.runs import Manifest, read_manifests
from liftloop.storage.store import Store, land

SOURCE = "simulated"
ROUNDS = 5
FIRST_LINE_GOAL_SECONDS, SERVED_GOAL_SECONDS = 12, 30
SIMULATION = SimulationSettings(impressions=320_000, days=8, seed=7)  # 32 files of 10,000 rows
LIMIT_SECONDS = 300
PORTS = {"S3": 21_333, "PREFECT": 21_340, "BRIDGE": 21_341}


@dataclass(frozen=True)
class Split:
    """Where one round's seconds went; the first three end at the first line of ingest."""

    bridge: float  # PUT → ingest run created
    ingest_scheduling: float  # → the worker takes it
    ingest_process_start: float  # → first line of the flow
    ingest_work: float  # → its end
    event: float  # → materialize run created (negative: before the end of ingest)
    materialize_scheduling: float
    materialize_process_start: float
    materialize_work: float  # → features in service

    @property
    def first_line(self) -> float:
        return self.bridge + self.ingest_scheduling + self.ingest_process_start

    @property
    def served(self) -> float:
        return float(sum(asdict(self).values()))


def main() -> None:
    with _stack() as settings:
        store, files = Store(settings), _files()
        for key, body in files[:-ROUNDS]:
            land(store, SOURCE, key, body)
        _wait_until(lambda: next_stage(store, load_contract(SOURCE)) is None)
        splits = [_measure(store, *file) for file in files[-ROUNDS:]]
    _report(splits)


@contextmanager
def _stack() -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="liftloop-bench-") as home:
        os.environ |= {"LIFTLOOP_HOME": home} | {f"LIFTLOOP_{name}_PORT": str(port) for name, port in PORTS.items()}
        settings = load_settings()
        try:
            running = up(settings, print, prefect_toml=None)
            initialise(running, print)
            yield running
        finally:
            down(settings)


def _files() -> list[tuple[str, bytes]]:
    found: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as truth:
        simulate(SIMULATION, found.__setitem__, Path(truth))
    return sorted(found.items())


def _measure(store: Store, key: str, body: bytes) -> Split:
    """Land one file and follow it; the loop rests before and after."""
    landed_at = datetime.now(UTC)
    land(store, SOURCE, key, body)
    _wait_until(lambda: _ended(store, "materialize", landed_at) is not None)
    runs = [manifest for flow in ("ingest", "materialize") if (manifest := _ended(store, flow, landed_at))]
    moments = [landed_at]
    for manifest in runs:
        created, taken = _times(store.settings, manifest.run_id)
        assert manifest.ended_at is not None
        moments += [created, taken, manifest.started_at, manifest.ended_at]
    split = Split(*((after - before).total_seconds() for before, after in pairwise(moments)))
    print(f"first line {split.first_line:5.1f} s   served {split.served:5.1f} s", flush=True)
    _wait_until(lambda: next_stage(store, load_contract(SOURCE)) is None)
    return split


def _ended(store: Store, flow: str, since: datetime) -> Manifest | None:
    found = [run for run in read_manifests(store, flow, since=since) if run.ended_at and run.started_at > since]
    return found[0] if found else None


def _times(settings: Settings, run_id: str) -> tuple[datetime, datetime]:
    """When a run was created, and when the worker took it."""
    created = ask(settings, f"/flow_runs/{run_id}")["created"]
    states = ask(settings, f"/flow_run_states/?flow_run_id={run_id}")
    taken = min(state["timestamp"] for state in states if state["type"] == "PENDING")
    return datetime.fromisoformat(created), datetime.fromisoformat(taken)


def _wait_until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the loop did not come to rest within {LIMIT_SECONDS} s")
        time.sleep(0.5)


def _report(splits: list[Split]) -> None:
    parts = {each.name: round(median(getattr(split, each.name) for split in splits), 2) for each in fields(Split)}
    for name, seconds in parts.items():
        print(f"{name.replace('_', ' '):<28}{seconds:6.2f} s")
    first_line, served = (median(getattr(split, name) for split in splits) for name in ("first_line", "served"))
    cases = [
        Case("first line of ingest", first_line, FIRST_LINE_GOAL_SECONDS, 1.0, "s"),
        Case("served features", served, SERVED_GOAL_SECONDS, 1.0, "s"),
    ]
    report("freshness", cases, rounds=ROUNDS, split=parts)


if __name__ == "__main__":
    main()
