"""The demo: both sources through the whole loop on this machine, with progress by stage and a table at the end."""

import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console

from liftloop import stack
from liftloop.contract.contract import load_contract
from liftloop.datasets import open_bandit, simulated
from liftloop.datasets.open_bandit_value import write_off_policy_page
from liftloop.demo.summary import print_summary
from liftloop.errors import UserError
from liftloop.operations.pending_work import next_stage
from liftloop.settings import Settings
from liftloop.stack.initialise import command_environment
from liftloop.storage.runs import Manifest, read_manifests
from liftloop.storage.store import Store, land

SOURCES = ("open_bandit", "simulated")
FLOWS = ("ingest", "materialize", "train", "evaluate")
SIMULATION = simulated.SimulationSettings(impressions=400_000, days=10, seed=7)
_PREFECT = Path(sysconfig.get_path("scripts")) / "prefect"
_POLL_SECONDS = 1.0
_LIMIT_SECONDS = 1800.0  # the loop may be waiting for a person, who cancelled a run


class DemoError(UserError):
    """A run of the demo failed; the message says which and why."""


def run_demo(console: Console) -> None:
    """Bring the stack up, land both sources, watch what that sets off, evaluate, and print what came of it.

    Raises:
        UserError: a part did not start, a log could not be had, or a run failed.
    """
    began, started_at = time.monotonic(), datetime.now(UTC)
    with _stage(console, "1/4  Stack: object store, Prefect server, worker, bridge"):
        store = Store(stack.start(console.print))
    with _stage(console, "2/4  Logs: the Open Bandit sample, and a simulated publisher"):
        _land_logs(store, console)
    runs = _Runs(store, started_at, console)
    with _stage(console, "3/4  Loop: what landed starts it, nobody else does"):
        runs.follow_until(lambda: all(next_stage(store, load_contract(source)) is None for source in SOURCES))
    with _stage(console, "4/4  Evaluation: otherwise once an hour"):
        evaluations = [_start_evaluation(store, source) for source in SOURCES]
        runs.follow_until(lambda: all(evaluation.poll() is not None for evaluation in evaluations))
    print_summary(store, SOURCES, _truth_folder(store.settings), console)
    console.print(f"Prefect UI: {_ui_address(store.settings)}   all in {time.monotonic() - began:.0f} s")


def _land_logs(store: Store, console: Console) -> None:
    sdist = open_bandit.obtain(store.settings.home / "cache")
    keys = open_bandit.land_sample(sdist, partial(land, store, "open_bandit"))
    console.print(f"open_bandit: {len(keys)} files")
    summary = simulated.simulate(SIMULATION, partial(land, store, "simulated"), _truth_folder(store.settings))
    console.print(f"simulated: {summary.rows:,} rows in {summary.files} files")
    write_off_policy_page(store, sdist)  # last: the loop is at work by now


@dataclass
class _Runs:
    """The runs since the demo began, and which of them it has told."""

    store: Store
    since: datetime
    console: Console
    told: set[str] = field(default_factory=set)

    def follow_until(self, is_done: Callable[[], bool]) -> None:
        """Say what each run did as soon as it has ended.

        Raises:
            DemoError: one failed, or it takes too long.
        """
        until = time.monotonic() + _LIMIT_SECONDS
        while time.monotonic() < until:
            rests = is_done()
            for manifest in read_manifests(self.store, since=self.since):
                if (
                    manifest.ended_at
                    and manifest.flow in FLOWS
                    and manifest.source in SOURCES
                    and manifest.run_id not in self.told
                ):
                    self._tell(manifest)
            if rests:
                return
            time.sleep(_POLL_SECONDS)
        raise DemoError(
            f"not done after {_LIMIT_SECONDS / 60:.0f} minutes: `liftloop status` says what waits, the Prefect UI why"
        )

    def _tell(self, manifest: Manifest) -> None:
        self.told.add(manifest.run_id)
        seconds = (manifest.ended_at or self.since).timestamp() - manifest.started_at.timestamp()
        unchanged = "  unchanged" if manifest.steps and all(step.is_reused for step in manifest.steps) else ""
        about = f"{manifest.source:<12} {manifest.flow:<12} {manifest.status:<10}"
        self.console.print(f"{about} {seconds:6.1f} s{unchanged}")
        if manifest.status == "failed":
            raise DemoError(f"{manifest.flow} of {manifest.source} failed: {manifest.error}")


def _start_evaluation(store: Store, source: str) -> "subprocess.Popen[bytes]":
    """As a user would, before the hour comes round."""
    command = [str(_PREFECT), "deployment", "run", "evaluate/evaluate", "--param", f"source={source}", "--watch"]
    log = store.settings.home / "logs" / f"demo-{source}.log"
    with log.open("w") as output:
        return subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=command_environment(store.settings)
        )


def _truth_folder(settings: Settings) -> Path:
    return settings.home / "truth" / "simulated"


def _ui_address(settings: Settings) -> str:
    return str(settings.prefect_api_url).removesuffix("/api")


@contextmanager
def _stage(console: Console, title: str) -> Iterator[None]:
    console.rule(title, align="left")
    began = time.monotonic()
    yield
    console.print(f"[dim]{time.monotonic() - began:.1f} s[/dim]")
