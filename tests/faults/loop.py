"""The running loop, as the matrix sees it: what landed, what came of it, who runs, and how to begin anew."""

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from dotenv import dotenv_values

from faults.proxy import Proxy
from faults.shop import SOURCE, landed_files, landed_rows, make_shop
from liftloop.contract.contract import Contract
from liftloop.contract.loading import load_contract
from liftloop.features.lookup import materialized_at, online_features
from liftloop.lake.lake import Lake
from liftloop.lake.ledger import ingested
from liftloop.provenance.lineage import verify
from liftloop.registry.promotion import read_audit
from liftloop.registry.registry import Registry
from liftloop.settings import Settings
from liftloop.stack import down, initialise, up
from liftloop.stack.layout import Layout
from liftloop.stack.prefect_api import ask
from liftloop.stack.supervisor import Supervisor
from liftloop.storage.runs import read_manifests
from liftloop.storage.store import Store, land

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
DERIVED = (f"lake/{SOURCE}/", f"tiles/{SOURCE}/", f"features/{SOURCE}/")
OURS: tuple[str, ...] = ("landing/", "quarantine/", "ledger/", "lake/", "tiles/", "features/", "registry/", "audit/")
OURS += ("blobs/", "runs/", "reports/", "evaluations/", "checkpoints/")


@dataclass(frozen=True)
class Outcome:
    """What the loop has made of the landed files. Equal outcomes are equal byte by byte."""

    tables: dict[str, str]  # key -> etag of every Parquet file of lake, tiles and features
    champion: str | None  # the version, which is a hash of the model
    online: str | None  # digest of every key's online features

    def __sub__(self, other: "Outcome") -> list[str]:
        """In words, what differs."""
        names = sorted(name for name, _ in self.tables.items() ^ other.tables.items())
        differs = [f"{len(names)} tables differ, such as {names[0]}"] if names else []
        differs += [f"champion {self.champion}, not {other.champion}"] if self.champion != other.champion else []
        return differs + (["other online features"] if self.online != other.online else [])


@dataclass
class Loop:
    """One stack of its own, whose flows and bridge reach the object store through the proxy."""

    settings: Settings  # straight to the store
    layout: Layout
    proxy: Proxy

    @cached_property
    def store(self) -> Store:
        return Store(self.settings)

    @cached_property
    def contract(self) -> Contract:
        return load_contract(SOURCE, self.layout.project / "contracts")

    def keys(self) -> dict[str, str]:
        """The secret of every identity of the store, by access key."""
        files = map(dotenv_values, [self.settings.generated_file, *self.layout.home.glob("keys/*.env")])
        return {str(each["LIFTLOOP_S3_ACCESS_KEY_ID"]): str(each["LIFTLOOP_S3_SECRET_ACCESS_KEY"]) for each in files}

    def land(self) -> None:
        """By way of the proxy, so that a fault can strike here, too."""
        store = Store(self.settings.model_copy(update={"s3_endpoint_url": self.proxy.url}))
        for name, body in landed_files().items():
            land(store, SOURCE, name, body)

    # What came of it

    def outcome(self) -> Outcome:
        tables = {item.key: item.etag for prefix in DERIVED for item in self.store.list(prefix)}
        tables = {key: etag for key, etag in tables.items() if key.endswith(".parquet")}
        pointer = Registry(self.store, SOURCE).champion()
        return Outcome(tables, pointer.version if pointer else None, self._online() if pointer else None)

    def wrong(self, reference: Outcome) -> list[str]:
        """In words, what still keeps it from having made of the files what `reference` says, and from resting."""
        try:
            return self.outcome() - reference or self.faults()
        except (OSError, BotoCoreError, ClientError) as error:
            return [f"a part is down: {error}"]

    def _online(self) -> str:
        now = materialized_at(self.store, SOURCE)
        users, ads = [f"u{number}" for number in range(301)], [f"a{number % 7}" for number in range(301)]
        rows = pd.DataFrame({"user_id": users, "ad_id": ads, "event_timestamp": now})
        return str(pd.util.hash_pandas_object(online_features(self.store, self.contract, rows)).sum())

    def faults(self) -> list[str]:
        """In words, what is wrong with what is on record, whatever the outcome; what costs least is looked at first."""
        return self._unrest() or self._miscounts() or [f"{d.ref.key} is {d.problem}" for d in verify(self.store)[1]]

    def _unrest(self) -> list[str]:
        found = [f"flow process {process.pid} is alive" for process in self.flow_processes()]
        return found + [f"run {run['name']} is {run['state_name']}" for run in self.runs() if not _has_ended(run)]

    def _miscounts(self) -> list[str]:
        moves = len(read_audit(Registry(self.store, SOURCE)))
        found = [f"the champion was moved {moves} times"] if moves != 1 else []
        entries = ingested(Lake(self.store, self.contract))
        landed = [item.key for item in self.store.list(f"landing/{SOURCE}/")]
        found += ["not one ledger entry for each object"] if sorted(e.landed.key for e in entries) != landed else []
        counted, rows = sum(e.rows_valid + e.rows_quarantined + e.rows_duplicate for e in entries), landed_rows()
        found += [f"{counted} rows counted of {rows} landed"] if counted != rows else []
        manifests = read_manifests(self.store)
        return found + [f"{manifest.key} says running" for manifest in manifests if manifest.status == "running"]

    # Who runs

    def runs(self) -> list[dict[str, Any]]:
        """Every flow run that the server knows."""
        found: list[dict[str, Any]] = ask(self.settings, "/flow_runs/filter", {"limit": 200})
        return found

    def resubmissions(self) -> int:
        """How often a run was started again."""
        return sum(max(0, run["run_count"] - 1) for run in self.runs())

    def part(self, name: str) -> psutil.Process:
        """The supervised process of a part."""
        return psutil.Process(self._supervisor.processes()[name].pid)

    def flow_processes(self) -> list[psutil.Process]:
        """The process of each flow run, without those that it started itself."""
        inside = [process for process in self._supervisor.members() if _has_flow_run(process)]
        pids = {process.pid for process in inside}
        return [process for process in inside if process.ppid() not in pids]

    def dask_workers(self) -> list[psutil.Process]:
        """What the flow processes started to compute in."""
        children = [child for flow in self.flow_processes() for child in flow.children(recursive=True)]
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]

    @property
    def _supervisor(self) -> Supervisor:
        return Supervisor(self.layout)

    # To begin anew

    def reset(self) -> None:
        """As before anything landed; whatever still runs is ended. The stack runs on."""
        self.proxy.disarm()
        wait_until(self._is_up, 120)
        for prefix in OURS:  # what landed first: what is derived from nothing is not made again
            self.store.delete([item.key for item in self.store.list(prefix)])
        for process in self.flow_processes():
            kill(process, *process.children(recursive=True))
        wait_until(self._has_forgotten_runs, 120)
        with closing(sqlite3.connect(self.layout.home / "feast" / "online_features.db", timeout=30)) as online, online:
            for (table,) in online.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                online.execute(f'DELETE FROM "{table}"')

    def _is_up(self) -> bool:
        try:
            return bool(self.runs() or self.store.find("nothing") is None)
        except (OSError, BotoCoreError, ClientError):
            return False

    def _has_forgotten_runs(self) -> bool:
        """Delete every run, and with it its idempotency key; whether none is left."""
        with suppress(OSError):
            ask(self.settings, "/flow_runs/bulk_delete", {"limit": 50})
            return not self.runs()
        return False


@contextmanager
def running_loop(settings: Settings, project: Path, environment: Mapping[str, str] = {}) -> Iterator[Loop]:
    """A stack, up for the length of the block, and all of it led through the proxy; its processes get `environment`."""
    make_shop(project)
    settings = settings.model_copy(update={"min_free_bytes": 2**28})
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**settings.as_environment(), **environment}.items():
                patch.setenv(name, value)  # its processes keep what was set when they were started
            running = up(settings, print, project=project, prefect_toml=None)
        initialise(running, print, project=project)
        with Proxy(running.s3_port) as proxy:
            loop = Loop(running, Layout.of(running, project), proxy)
            _lead_through(proxy, loop)
            yield loop
    finally:
        down(settings)


def _lead_through(proxy: Proxy, loop: Loop) -> None:
    """Flow processes read these files when they start, and so does the bridge."""
    for file in [loop.settings.generated_file, *loop.layout.home.glob("keys/*.env")]:
        file.write_text(file.read_text().replace(str(loop.settings.s3_endpoint_url), proxy.url))
    kill(loop.part("bridge"))


def kill(*processes: psutil.Process) -> None:
    """kill -9."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def wait_until(is_true: Callable[[], bool], limit_seconds: float) -> float:
    """Seconds until something is so.

    Raises:
        TimeoutError: it is not, within the limit.
    """
    began = time.monotonic()
    while not _holds(is_true):
        if time.monotonic() - began > limit_seconds:
            raise TimeoutError(f"not within {limit_seconds:.0f} s")
        time.sleep(1)
    return time.monotonic() - began


def _holds(is_true: Callable[[], bool]) -> bool:
    try:
        return is_true()
    except OSError:  # a part was asked and did not answer in time
        return False


def _has_flow_run(process: psutil.Process) -> bool:
    try:
        return "PREFECT__FLOW_RUN_ID" in process.environ()
    except (psutil.Error, OSError):
        return False


def _has_ended(run: dict[str, Any]) -> bool:
    return run["state_type"] in ENDED
