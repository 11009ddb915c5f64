"""The demo: both sources through the whole loop on this machine, with progress by stage and a table at the end."""

import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console

from liftloop import simulator, stack
from liftloop.demo.summary import print_summary
from liftloop.errors import UserError
from liftloop.landing import open_bandit
from liftloop.runs import Manifest, read_manifests
from liftloop.settings import Settings
from liftloop.stack.initialise import command_environment
from liftloop.store import Store, land

SOURCES = ("open_bandit", "simulated")
SIMULATION = simulator.SimulationSettings(impressions=400_000, days=10, seed=7)
_PREFECT = Path(sysconfig.get_path("scripts")) / "prefect"
_POLL_SECONDS = 1.0


class DemoError(UserError):
    """A run of the demo failed; the message says which and why."""


def run_demo(console: Console) -> None:
    """Bring the stack up, land both sources, run the loop on each, print what came of it.

    Raises:
        UserError: a part did not start, a log could not be had, or a run failed.
    """
    began = time.monotonic()
    with _stage(console, "1/4  Stack: object store, Prefect server, worker"):
        settings = stack.start(console.print)
    store = Store(settings)
    with _stage(console, "2/4  Logs: the Open Bandit sample, and a simulated publisher"):
        _land_logs(store, console)
    for number, source in enumerate(SOURCES, start=3):
        with _stage(console, f"{number}/4  Loop: {source}"):
            _run_lifecycle(store, source, console)
    print_summary(store, SOURCES, _truth_folder(settings), console)
    console.print(f"Prefect UI: {_ui_address(settings)}   all in {time.monotonic() - began:.0f} s")


def _land_logs(store: Store, console: Console) -> None:
    keys = open_bandit.fetch(partial(land, store, "open_bandit"), cache=store.settings.home / "cache")
    console.print(f"open_bandit: {len(keys)} files")
    summary = simulator.simulate(SIMULATION, partial(land, store, "simulated"), _truth_folder(store.settings))
    console.print(f"simulated: {summary.rows:,} rows in {summary.files} files")


def _run_lifecycle(store: Store, source: str, console: Console) -> None:
    """Start the deployment as a user would, and say what each of its runs did as soon as it has ended."""
    started_at, shown = datetime.now(UTC), set[str]()
    log = store.settings.home / "logs" / f"demo-{source}.log"
    command = [str(_PREFECT), "deployment", "run", "lifecycle/lifecycle", "--param", f"source={source}", "--watch"]
    with log.open("w") as output:
        run = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=command_environment(store.settings)
        )
        while True:
            has_ended = run.poll() is not None
            _print_ended(store, source, started_at, shown, console)
            if has_ended:
                break
            time.sleep(_POLL_SECONDS)
    if run.returncode != 0:
        raise DemoError(_failure(store, source, started_at, log))


def _print_ended(store: Store, source: str, started_at: datetime, shown: set[str], console: Console) -> None:
    for manifest in _manifests_since(store, source, started_at):
        if manifest.ended_at and manifest.run_id not in shown:
            shown.add(manifest.run_id)
            seconds = (manifest.ended_at - manifest.started_at).total_seconds()
            is_reused = bool(manifest.steps) and all(step.is_reused for step in manifest.steps)
            console.print(f"{manifest.flow:<12} {manifest.status:<10} {seconds:6.1f} s{'  unchanged' * is_reused}")


def _failure(store: Store, source: str, started_at: datetime, log: Path) -> str:
    errors = [f"{m.flow}: {m.error}" for m in _manifests_since(store, source, started_at) if m.error]
    return f"the loop of {source} failed: {errors[0] if errors else 'see its log'} (all output: {log})"


def _manifests_since(store: Store, source: str, started_at: datetime) -> list[Manifest]:
    return [m for m in read_manifests(store, since=started_at) if m.source == source]


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
