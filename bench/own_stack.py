"""A stack of a benchmark's own, in a home that is thrown away."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from liftloop.contract.contract import Contract
from liftloop.contract.loading import load_contract
from liftloop.datasets.simulated import SimulationSettings, simulate
from liftloop.datasets.simulated.effects import STATIC
from liftloop.datasets.simulated.landing import document_of
from liftloop.operations.pending_work import SourceState
from liftloop.project import find_project
from liftloop.settings import Settings, load_settings
from liftloop.stack import down, initialise, up
from liftloop.storage.store import Store

PORTS = {"S3": 21_333, "PREFECT": 21_340, "BRIDGE": 21_341}


@contextmanager
def own_stack() -> Iterator[Settings]:
    """All parts, with this project's flows deployed."""
    with tempfile.TemporaryDirectory(prefix="liftloop-bench-") as home:
        os.environ |= {"LIFTLOOP_HOME": home} | {f"LIFTLOOP_{name}_PORT": str(port) for name, port in PORTS.items()}
        settings = load_settings()
        try:
            running = up(settings, print, prefect_toml=None)
            initialise(running, print)
            yield running
        finally:
            down(settings)


def static_contract() -> Contract:
    """The simulated publisher's where its world does not move and outcomes land with their impressions."""
    document = yaml.safe_load((find_project().contracts_folder / "simulated.yaml").read_text())
    return Contract.model_validate(document_of(document, STATIC))


def simulated_files(simulation: SimulationSettings) -> list[tuple[str, bytes]]:
    """The simulated publisher's logs, by key under its landing prefix."""
    found: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as truth:
        simulate(simulation, found.__setitem__, Path(truth))
    return sorted(found.items())


def wait_for_rest(store: Store, source: str, limit_seconds: float) -> None:
    """Wait until the loop has nothing left to do for a source."""
    wait_until(lambda: SourceState.read(store, load_contract(source)).next_stage is None, limit_seconds)


def wait_until(is_true: Callable[[], bool], limit_seconds: float) -> None:
    """Ask twice a second.

    Raises:
        TimeoutError: it was not true in all that time.
    """
    deadline = time.monotonic() + limit_seconds
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"the loop did not get there within {limit_seconds:.0f} s")
        time.sleep(0.5)
