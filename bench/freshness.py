"""From the PUT of a 10,000-row file to the first line of its ingest, and to its features in service.

    python -m bench.freshness

The peers are the objectives: 12 s and 30 s. A stack of its own, filled with six days of logs, gets one file a round.
"""

from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median

from bench.measure import Case, report
from bench.own_stack import own_stack, simulated_files, wait_for_rest, wait_until
from liftloop.datasets.simulated import SimulationSettings
from liftloop.settings import Settings
from liftloop.stack.prefect_api import ask
from liftloop.storage.runs import Manifest, read_manifests
from liftloop.storage.store import Store, land

SOURCE = "simulated"
ROUNDS = 5
FIRST_LINE_GOAL_SECONDS, SERVED_GOAL_SECONDS = 12, 30
SIMULATION = SimulationSettings(impressions=320_000, days=8, seed=7)  # 32 files of 10,000 rows
LIMIT_SECONDS = 300


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
    with own_stack() as settings:
        store, files = Store(settings), simulated_files(SIMULATION)
        for key, body in files[:-ROUNDS]:
            land(store, SOURCE, key, body)
        wait_for_rest(store, SOURCE, LIMIT_SECONDS)
        splits = [_measure(store, *file) for file in files[-ROUNDS:]]
    _report(splits)


def _measure(store: Store, key: str, body: bytes) -> Split:
    """Land one file and follow it; the loop rests before and after."""
    landed_at = datetime.now(UTC)
    land(store, SOURCE, key, body)
    wait_until(lambda: _ended(store, "materialize", landed_at) is not None, LIMIT_SECONDS)
    runs = [manifest for flow in ("ingest", "materialize") if (manifest := _ended(store, flow, landed_at))]
    moments = [landed_at]
    for manifest in runs:
        created, taken = _times(store.settings, manifest.run_id)
        assert manifest.ended_at is not None
        moments += [created, taken, manifest.started_at, manifest.ended_at]
    split = Split(*((after - before).total_seconds() for before, after in pairwise(moments)))
    print(f"first line {split.first_line:5.1f} s   served {split.served:5.1f} s", flush=True)
    wait_for_rest(store, SOURCE, LIMIT_SECONDS)
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
