"""The bridge on a real stack: what lands gets one run, whatever is lost or dies; healthy runs are left alone."""

import io
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx
import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from lib.contracts import short_names_document
from lib.projects import unscheduled, write_deployments
from lib.waits import until
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Running

from bridge.reaper import RESUBMITTED, Limits, Reaper
from liftloop.contract.loading import load_contract
from liftloop.lake.lake import Lake
from liftloop.lake.landed import Landed
from liftloop.lake.ledger import ingested
from liftloop.settings import Settings
from liftloop.stack import initialise
from liftloop.stack.layout import Layout
from liftloop.stack.parts import SCRIPTS
from liftloop.stack.supervisor import Supervisor
from liftloop.storage.keys import impressions_prefix
from liftloop.storage.runs import find_manifest
from liftloop.storage.store import Store, concurrently, land

pytestmark = pytest.mark.timeout(900)

BACKLOG = 1500
ROWS_PER_FILE = 4

SLOW_FLOW = """
import time
from prefect import flow

@flow(name="slow")
def slow(source: str) -> None:
    time.sleep(125)
"""


def log_file(name: str) -> bytes:
    rows = (f"{name}-{n},2026-01-05 12:00:00,top,a{n % 3},0\n" for n in range(ROWS_PER_FILE))
    return ("id,at,slot,ad,clicked\n" + "".join(rows)).encode()


@contextmanager
def shops_in(project: Path, *sources: str) -> Iterator[None]:
    """Declares sources of our own, and a flow that takes its time; nothing starts by event."""
    kept = [each | {"triggers": []} for each in unscheduled() if each["name"] in {"ingest", "materialize"}]
    write_deployments(project, [*kept, kept[0] | {"name": "slow", "entrypoint": "slow.py:slow"}])
    (project / "slow.py").write_text(SLOW_FLOW)
    contracts = {project / "contracts" / f"{source}.yaml": short_names_document(source=source) for source in sources}
    for file, contract in contracts.items():
        file.write_text(yaml.safe_dump(contract))
    yield
    for file in contracts:
        file.unlink()
    write_deployments(project, unscheduled())


@dataclass(frozen=True)
class World:
    """The stack and what one may ask of it."""

    store: Store
    client: SyncPrefectClient
    layout: Layout

    def land(self, source: str, *names: str) -> None:
        concurrently(lambda name: land(self.store, source, f"{name}.csv", log_file(name)), names)

    def runs(self, flow: str, source: str) -> list[FlowRun]:
        found = self.client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])))
        return [run for run in found if run.parameters["source"] == source]

    def ended(self, flow: str, source: str, count: int = 1) -> list[FlowRun]:
        """The runs of a flow, once there are so many and all have ended."""

        def look() -> list[FlowRun]:
            runs = self.runs(flow, source)
            return runs if len(runs) >= count and all(run.state and run.state.is_final() for run in runs) else []

        return until(look, 600)

    def start(self, flow: str, source: str) -> FlowRun:
        deployment = self.client.read_deployment_by_name(f"{flow}/{flow}")
        return self.client.create_flow_run_from_deployment(deployment.id, parameters={"source": source})

    def state_names(self, run: UUID) -> list[str | None]:
        return [state.name for state in self.client.read_flow_run_states(run)]

    def supervisorctl(self, *command: str) -> None:
        """Waits until the part is stopped, or has run for a second."""
        subprocess.run([SCRIPTS / "supervisorctl", "-c", self.layout.config_file, *command], check=True)

    def process_of(self, part: str) -> psutil.Process:
        return psutil.Process(Supervisor(self.layout).processes()[part].pid)


@pytest.fixture(scope="module")
def world(stack: Settings, stack_project: Path) -> Iterator[World]:
    auth = stack.prefect_auth.get_secret_value() if stack.prefect_auth else None
    reach = {PREFECT_API_URL: stack.prefect_api_url, PREFECT_API_AUTH_STRING: auth, PREFECT_CLIENT_MAX_RETRIES: 1}
    with shops_in(stack_project, "shop", "many", "lost", "dies"):
        initialise(stack, print, project=stack_project)
        with temporary_settings(reach), get_client(sync_client=True) as client:
            yield World(Store(stack), client, Layout.of(stack, stack_project))


def test_a_landed_object_gets_its_run_within_seconds(world: World) -> None:
    world.land("shop", "a")
    (item,) = world.store.list("landing/shop/")
    run = until(lambda: world.runs("ingest", "shop"), 60)[0]
    landed = Landed.read(world.store, load_contract("shop", world.layout.project / "contracts"))
    assert run.idempotency_key == f"{world.store.uri(item.key)}#{landed.object_id(item)}"
    (ended,) = world.ended("ingest", "shop")
    assert ended.state_name == "Completed"
    assert [
        entry.landed.key
        for entry in ingested(Lake(world.store, load_contract("shop", world.layout.project / "contracts")))
    ] == [item.key]


@pytest.mark.slow
def test_what_lands_while_a_run_is_under_way_is_not_forgotten(world: World) -> None:
    contract = load_contract("shop", world.layout.project / "contracts")
    before = len(ingested(Lake(world.store, contract)))
    world.land("shop", "b")
    until(lambda: [run for run in world.runs("ingest", "shop") if run.state_name == "Running"])
    for number in range(8):  # some during the run, some when it is about to end, some after it
        world.land("shop", f"c{number}")
        time.sleep(1)
    until(lambda: len(ingested(Lake(world.store, contract))) == before + 9)


@pytest.mark.slow
def test_a_lost_event_is_made_good(world: World) -> None:
    """No trigger is deployed here: nothing but the bridge starts the features of what test one ingested."""
    world.land("lost", "a")
    world.ended("ingest", "lost")
    (run,) = world.ended("materialize", "lost")
    assert run.idempotency_key is not None
    assert run.idempotency_key.startswith("materialize/lost/")


@pytest.mark.slow
def test_a_backlog_after_a_stop_is_one_run_oldest_first(world: World) -> None:
    names = [f"{BACKLOG - number:05}" for number in range(BACKLOG)]  # oldest is not first by name
    bridge = world.process_of("bridge")
    bridge.suspend()  # what it is told now is lost
    for first in range(0, BACKLOG, 500):
        world.land("many", *names[first : first + 500])
    os.kill(bridge.pid, signal.SIGKILL)
    (run,) = world.ended("ingest", "many")
    assert run.state_name == "Completed"
    entries = ingested(Lake(world.store, load_contract("many", world.layout.project / "contracts")))
    assert Counter(entry.landed.key for entry in entries) == Counter(f"landing/many/{name}.csv" for name in names)
    assert sum(entry.rows_valid for entry in entries) == BACKLOG * ROWS_PER_FILE == distinct_rows(world.store, "many")
    landed = {item.key: item.modified for item in world.store.list("landing/many/")}
    steps = find_manifest(world.store, str(run.id)).steps
    order = [landed[step.inputs[0].key] for step in steps if step.name == "ingest"]
    assert order == sorted(order)
    oldest = min(landed, key=lambda key: (landed[key], key))
    assert run.idempotency_key is not None
    assert run.idempotency_key.startswith(f"{world.store.uri(oldest)}#")


def distinct_rows(store: Store, source: str) -> int:
    """Rows of a source's lake; each counts once."""
    bodies = concurrently(store.get, (item.key for item in store.list(impressions_prefix(source))))
    ids = Counter(name for body in bodies for name in read_ids(body))
    assert max(ids.values()) == 1
    return len(ids)


def read_ids(body: bytes) -> list[str]:
    return list(pq.read_table(io.BytesIO(body), columns=["impression_id"]).column(0).to_pylist())


@pytest.mark.slow
def test_a_run_whose_process_is_killed_is_resubmitted_once(world: World) -> None:
    world.land("dies", "a")
    run = until(lambda: world.runs("ingest", "dies"))[0]
    until(lambda: any(True for _ in world.store.list(f"runs/ingest/{run.id}/")))
    for times_resubmitted in (0, 1):
        now = until(lambda: [each for each in world.runs("ingest", "dies") if each.state_name == "Running"])[0]
        os.kill(int(now.infrastructure_pid or ""), signal.SIGKILL)
        until(lambda: world.client.read_flow_run(run.id).state_name == "Crashed")
        assert world.state_names(run.id).count(RESUBMITTED) == times_resubmitted
    until(lambda: find_manifest(world.store, str(run.id)).status == "crashed")
    assert [each.id for each in world.runs("ingest", "dies")] == [run.id]


@pytest.mark.slow
def test_a_run_that_never_moves_is_resubmitted_and_then_does_its_work(world: World) -> None:
    """As after the death of worker and process together: it is Running, and nobody is there."""
    run = world.start("ingest", "nobody")
    until(lambda: world.client.read_flow_run(run.id).state_name in {"Failed", "Completed"})
    world.client.set_flow_run_state(run.id, Running(), force=True)
    reaper = Reaper(world.client, world.store, Limits(running=2, crashed=1))
    until(lambda: RESUBMITTED in swept(reaper, world, run))
    assert world.state_names(run.id).count("Crashed") == 1
    until(lambda: world.client.read_flow_run(run.id).state_name in {"Failed", "Completed"})
    assert world.state_names(run.id).count(RESUBMITTED) == 1


def swept(reaper: Reaper, world: World, run: FlowRun) -> list[str | None]:
    """The states that a run went through, after one more look of the reaper."""
    reaper.sweep()
    return world.state_names(run.id)


@pytest.mark.slow
def test_a_healthy_long_run_is_never_reaped(world: World) -> None:
    """It works for twice the limit; only its heartbeats (one in 30 s, or later on a busy machine) speak for it."""
    run = world.start("slow", "shop")
    reaper = Reaper(world.client, world.store, Limits(pending=60, running=60), is_alive=lambda _: False)
    until(lambda: {"Crashed", "Completed"} & {*swept(reaper, world, run)})
    assert "Crashed" not in world.state_names(run.id)


def fails(reaper: Reaper) -> bool:
    try:
        reaper.sweep()
    except httpx.HTTPError:
        return True
    return False


@pytest.mark.slow
def test_a_server_that_was_away_ends_no_run(world: World) -> None:
    """Silence counts only while the server answers, and restarts at 0 after it did not."""
    run = world.start("slow", "shop")
    until(lambda: world.client.read_flow_run(run.id).state_name == "Running")
    now = [0.0]
    reaper = Reaper(world.client, world.store, Limits(running=25), is_alive=lambda _: False, clock=lambda: now[0])
    reaper.sweep()
    now[0] += 20
    reaper.sweep()
    world.supervisorctl("stop", "prefect-server")  # a kill alone may be over before the client's retry
    assert fails(reaper)
    world.supervisorctl("start", "prefect-server")
    until(lambda: world.client.api_healthcheck() is None)
    now[0] += 3600
    reaper.sweep()
    now[0] += 20
    reaper.sweep()
    assert "Crashed" not in world.state_names(run.id)


def test_sigterm_ends_it_at_once(world: World) -> None:
    bridge = world.process_of("bridge")
    began = datetime.now(UTC)
    bridge.terminate()
    psutil.wait_procs([bridge], timeout=20)
    assert not bridge.is_running(), f"still there after {datetime.now(UTC) - began}"
    until(lambda: world.process_of("bridge").pid != bridge.pid)  # supervised
