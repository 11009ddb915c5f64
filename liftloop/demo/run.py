"""The demo: both sources through the whole loop on this machine, with progress by stage and a table at the end."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from liftloop import stack
from liftloop.contract.loading import load_contract
from liftloop.datasets import open_bandit, simulated
from liftloop.datasets.open_bandit_value import write_off_policy_page
from liftloop.demo.live import live_line
from liftloop.demo.summary import print_summary
from liftloop.errors import UserError
from liftloop.operations.pending_work import SourceState
from liftloop.settings import Settings
from liftloop.stack.lifecycle import WaitFor
from liftloop.stack.prefect_api import ask
from liftloop.storage.keys import RUNS
from liftloop.storage.runs import Manifest, read_records
from liftloop.storage.store import Store, land

SOURCES = ("open_bandit", "simulated")
FLOWS = ("ingest", "materialize", "train", "evaluate")
SIMULATION = simulated.SimulationSettings(impressions=400_000, days=16, seed=7)
FIRST_DAYS = 14  # land before the others, so that there is a champion when these are trained on
_POLL_SECONDS = 1.0
_LIMIT_SECONDS = 1800.0  # the loop may wait indefinitely, for example if a person cancelled a run


_ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class DemoError(UserError):
    """A run of the demo failed; the message says which and why."""


def run_demo(console: Console) -> None:
    """Start the stack, land both sources, follow the runs that this triggers, evaluate, and print the results.

    Raises:
        UserError: a part did not start, a log could not be obtained, or a run failed.
    """
    began, started_at = time.monotonic(), datetime.now(UTC)
    with _stage(console, "1/5  Stack: object store, Prefect server, worker, bridge") as wait_for:
        store = Store(stack.start(console.print, wait_for))
    with _stage(console, f"2/5  Logs: the Open Bandit sample, and {FIRST_DAYS} days of a publisher") as wait_for:
        later = _land_logs(store, console, wait_for)
    runs = _Runs(store, started_at, console)
    with _stage(console, "3/5  Loop: started by the landed files alone") as wait_for:
        runs.follow_until(partial(_next_stages, store), wait_for)
    with _stage(console, "4/5  Later days: another model is judged against the champion") as wait_for:
        _land(store, console, later)
        runs.follow_until(partial(_next_stages, store), wait_for)
    with _stage(console, "5/5  Evaluation: otherwise hourly") as wait_for:
        evaluations = [_start_evaluation(store.settings, source) for source in SOURCES]
        runs.follow_until(partial(_unfinished, store.settings, evaluations), wait_for)
    print_summary(store, SOURCES, _truth_folder(store.settings), console)
    console.print(f"Prefect UI: {_ui_address(store.settings)}   total: {time.monotonic() - began:.0f} s")


def _land_logs(store: Store, console: Console, wait_for: WaitFor) -> list[tuple[str, bytes]]:
    """Land the logs but the publisher's last days; returns the files of these."""
    wait_for("the package index: the Open Bandit sample")
    sdist = open_bandit.obtain(store.settings.home / "cache")
    keys = open_bandit.land_sample(sdist, partial(land, store, "open_bandit"))
    console.print(f"open_bandit: {len(keys)} files")
    wait_for("the simulated publisher's users")
    files: list[tuple[str, bytes]] = []
    simulated.simulate(SIMULATION, lambda key, body: files.append((key, body)), _truth_folder(store.settings))
    first_later = f"{SIMULATION.start_date + timedelta(days=FIRST_DAYS)}/"
    place = next(place for place, (key, _) in enumerate(files) if key.startswith(first_later))  # they land in order
    _land(store, console, files[:place])
    wait_for("Open Bandit's own policy, replayed")
    write_off_policy_page(store, sdist)  # last, because the loop is already running meanwhile
    return files[place:]


def _land(store: Store, console: Console, files: Sequence[tuple[str, bytes]]) -> None:
    for key, body in files:
        land(store, "simulated", key, body)
    console.print(f"simulated: {len(files)} files")


@dataclass
class _Runs:
    """The runs since the demo started. `ended`: keys of manifests that need not be read again."""

    store: Store
    since: datetime
    console: Console
    ended: set[str] = field(default_factory=set)

    def follow_until(self, list_due: Callable[[], Sequence[str]], wait_for: WaitFor) -> None:
        """Print each run as it ends, until none is under way and nothing is due.

        Raises:
            DemoError: a run failed, or the time limit passed.
        """
        until = time.monotonic() + _LIMIT_SECONDS
        while time.monotonic() < until:
            waits = [f"{manifest.flow} of {manifest.source}" for manifest in self._under_way()]
            # `list_due` lists whole prefixes, so it is called only while no run is under way.
            waits = waits or [f"a process for {each}" for each in list_due()]
            if not waits:
                return
            wait_for(", ".join(waits))
            time.sleep(_POLL_SECONDS)
        raise DemoError(f"not done after {_LIMIT_SECONDS / 60:.0f} minutes: see `liftloop status` and the Prefect UI")

    def _under_way(self) -> list[Manifest]:
        """The unfinished runs; prints each finished one once."""
        listed = (item.key for item in self.store.list(RUNS) if item.modified >= self.since)
        read = read_records(self.store, (key for key in listed if key not in self.ended))
        ours = {key: each for key, each in read.items() if each and each.flow in FLOWS and each.source in SOURCES}
        for key, manifest in ours.items():
            if manifest.ended_at:
                self.ended.add(key)
                self._print(manifest)
        return [manifest for manifest in ours.values() if not manifest.ended_at]

    def _print(self, manifest: Manifest) -> None:
        seconds = (manifest.ended_at or self.since).timestamp() - manifest.started_at.timestamp()
        unchanged = "  unchanged" if manifest.steps and all(step.is_reused for step in manifest.steps) else ""
        about = f"{manifest.source:<12} {manifest.flow:<12} {manifest.status:<10}"
        self.console.print(f"{about} {seconds:6.1f} s{unchanged}")
        if manifest.status == "failed":
            raise DemoError(f"{manifest.flow} of {manifest.source} failed: {manifest.error}")


def _next_stages(store: Store) -> list[str]:
    """The next due flow of each source."""
    stages = {source: SourceState.read(store, load_contract(source)).next_stage for source in SOURCES}
    return [f"{stage} of {source}" for source, stage in stages.items() if stage]


def _start_evaluation(settings: Settings, source: str) -> str:
    """Start an evaluation ahead of its schedule; returns the id of the run."""
    deployment = ask(settings, "/deployments/name/evaluate/evaluate")["id"]
    run: dict[str, Any] = ask(
        settings, f"/deployments/{deployment}/create_flow_run", {"parameters": {"source": source}}
    )
    return str(run["id"])


def _unfinished(settings: Settings, runs: Sequence[str]) -> list[str]:
    states = [ask(settings, f"/flow_runs/{run}") for run in runs]
    return [f"evaluate of {run['parameters']['source']}" for run in states if run["state_type"] not in _ENDED]


def _truth_folder(settings: Settings) -> Path:
    return settings.home / "truth" / "simulated"


def _ui_address(settings: Settings) -> str:
    return str(settings.prefect_api_url).removesuffix("/api")


@contextmanager
def _stage(console: Console, title: str) -> Iterator[WaitFor]:
    console.rule(title, align="left")
    began = time.monotonic()
    with live_line(console) as wait_for:
        yield wait_for
    console.print(f"[dim]{time.monotonic() - began:.1f} s[/dim]")
