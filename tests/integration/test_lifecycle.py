"""The whole chain on a real server and worker: first what landed sets it off, and then one command runs it again."""

import json
import subprocess
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
from lib.waits import until

from liftloop.contract.loading import load_contract
from liftloop.datasets.simulated import SimulationSettings, simulate
from liftloop.lake.lake import Lake
from liftloop.lake.landed import Landed
from liftloop.lake.ledger import ingested
from liftloop.operations.pending_work import SourceState
from liftloop.provenance.lineage import trace, verify
from liftloop.registry.load import load_model
from liftloop.registry.registry import Registry
from liftloop.settings import Role, Settings
from liftloop.stack import initialise
from liftloop.stack.initialise import command_environment
from liftloop.stack.layout import Credentials, Layout
from liftloop.stack.parts import SCRIPTS
from liftloop.stack.prefect_api import ask
from liftloop.storage.keys import card_key
from liftloop.storage.runs import Manifest, read_manifests
from liftloop.storage.store import Store, land

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
CHAIN = ["ingest", "materialize", "train"]
STAGES = [*CHAIN, "evaluate", "lifecycle"]
LIMIT_SECONDS = 300


@dataclass(frozen=True)
class Lived:
    """What landed files set off, and what a run of the whole chain then did on them."""

    store: Store
    first: list[Manifest]
    second: list[Manifest]

    def of(self, flow: str, run: int = 0) -> Manifest:
        return next(manifest for manifest in (self.first, self.second)[run] if manifest.flow == flow)


def run_chain(settings: Settings, source: str) -> subprocess.CompletedProcess[str]:
    command = ["deployment", "run", "lifecycle/lifecycle", "--param", f"source={source}", "--watch"]
    environment = command_environment(settings)
    return subprocess.run([SCRIPTS / "prefect", *command], env=environment, capture_output=True, text=True)


def runs_of(source: str, store: Store) -> list[Manifest]:
    """Other tests share the stack, with sources of their own."""
    return [manifest for manifest in read_manifests(store) if manifest.source == source]


@pytest.fixture(scope="module")
def lived(stack: Settings, stack_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    store = Store(stack)
    initialise(stack, print, project=stack_project)
    simulation = SimulationSettings(impressions=80_000, days=13, seed=7)
    simulate(simulation, partial(land, store, "simulated"), tmp_path_factory.mktemp("truth"))
    until(lambda: SourceState.read(store, load_contract("simulated")).next_stage is None, LIMIT_SECONDS, poll_seconds=1)
    first = runs_of("simulated", store)
    done = run_chain(stack, "simulated")
    assert done.returncode == 0, done.stdout + done.stderr
    return Lived(store, first, runs_of("simulated", store)[len(first) :])


@pytest.fixture
def api(stack: Settings) -> Any:
    """Ask the Prefect server for things by filter."""

    def matching(kind: str) -> Any:
        return ask(stack, f"/{kind}/filter", {})

    return matching


def test_landed_files_set_off_one_run_of_each_stage(lived: Lived, api: Any) -> None:
    assert [manifest.flow for manifest in lived.first] == CHAIN
    runs = {run["id"]: run for run in api("flow_runs")}
    ingest, *others = (runs[manifest.run_id] for manifest in lived.first)
    oldest = min(lived.store.list("landing/simulated/"), key=lambda item: (item.modified, item.key))
    object_id = Landed.read(lived.store, load_contract("simulated")).object_id(oldest)
    assert ingest["idempotency_key"] == f"{lived.store.uri(oldest.key)}#{object_id}"
    assert [run["created_by"]["type"] for run in others] == ["AUTOMATION", "AUTOMATION"]


@pytest.mark.parametrize("flow", STAGES)
def test_every_run_of_the_chain_is_on_record(lived: Lived, flow: str) -> None:
    manifest = lived.of(flow, run=1)
    assert (manifest.status, manifest.source, manifest.error) == ("completed", "simulated", None)
    assert manifest.parameters == {"source": "simulated"}
    assert manifest.parents == (() if flow == "lifecycle" else (lived.of("lifecycle", run=1).run_id,))


def test_every_landed_row_is_accounted_for(lived: Lived) -> None:
    entries = ingested(Lake(lived.store, load_contract("simulated")))
    landed = list(lived.store.list("landing/simulated/"))
    assert len(entries) == len(landed) == 13 * 5  # four files of impressions a day, and one of outcomes
    assert sum(e.rows_landed for e in entries) == sum(
        e.rows_valid + e.rows_quarantined + e.rows_duplicate for e in entries
    )
    assert sum(e.rows_quarantined for e in entries) > 0


def test_a_model_walks_back_to_the_landed_files(lived: Lived) -> None:
    (version,) = Registry(lived.store, "simulated").versions()
    landed = {end.ref.key for end in trace(lived.store, version.booster.key).ends()}
    assert landed == {item.key for item in lived.store.list("landing/simulated/")}
    assert load_model(lived.store, version).version == version.version


def test_nothing_on_record_is_missing_or_changed(lived: Lived) -> None:
    count, damages = verify(lived.store)
    assert count > 100
    assert damages == []


@pytest.mark.parametrize("flow", ["materialize", "train"])
def test_unchanged_input_is_not_computed_again(lived: Lived, flow: str) -> None:
    assert [step.is_reused for step in lived.of(flow, run=1).steps] == [True] * len(lived.of(flow, run=1).steps)
    computed = {step.name for step in lived.of(flow).steps if not step.is_reused}
    assert computed == {step.name for step in lived.of(flow).steps} - {"check_skew"}  # which makes nothing


def test_runs_and_artifacts_are_in_the_ui(lived: Lived, api: Any) -> None:
    runs = {run["id"]: run["state_type"] for run in api("flow_runs")}
    assert {runs[manifest.run_id] for manifest in lived.first + lived.second} == {"COMPLETED"}
    kinds = {(artifact["key"], artifact["type"]) for artifact in api("artifacts")}
    assert {
        ("simulated-ingest-table", "table"),
        ("simulated-ingest-page", "markdown"),
        ("simulated-gate-table", "table"),
        ("simulated-verdict-text", "markdown"),
        ("simulated-model-card-page", "markdown"),
        ("simulated-evaluation-table", "table"),
        ("simulated-evaluation-page", "markdown"),
    } <= kinds


def test_the_pages_are_there_and_phone_nobody(lived: Lived) -> None:
    (version,) = Registry(lived.store, "simulated").versions()
    pages = [item.key for item in lived.store.list("reports/simulated/") if item.key.endswith(".html")]
    assert card_key(version.source, version.version) in pages
    assert len(pages) == 3
    for key in pages:
        page = lived.store.get(key).decode()
        assert "<title>" in page
        assert "http://" not in page.replace("http://www.w3.org/", "")
        assert "https://" not in page


def test_a_source_without_data_fails_in_plain_words(lived: Lived, stack: Settings) -> None:
    done = run_chain(stack, "open_bandit")
    assert done.returncode != 0
    (failed,) = [m for m in read_manifests(lived.store, "train") if m.source == "open_bandit"]
    assert failed.status == "failed"
    assert failed.error is not None
    assert "the lake of open_bandit is empty: land its logs and run ingest first" in failed.error


def test_the_contracts_window_is_what_was_held_out(lived: Lived) -> None:
    contract = load_contract("simulated")
    (gate,) = [step for step in lived.of("train").steps if step.name == "gate"]
    assert gate.metrics["verdict"] in {"promote", "refuse", "inconclusive"}
    (frame,) = [step for step in lived.of("train").steps if step.name == "frame"]
    assert frame.metrics["holdout"]["rows"] == pytest.approx(80_000 / 13 * contract.split.holdout.days, rel=0.1)


EVENTS = {"landing.object-created": "ingest", "model.degraded": "train", "model.rollback-requested": "rollback"}


def test_events_from_outside_start_what_they_ask_for(lived: Lived, stack: Settings) -> None:
    before = {manifest.run_id for manifest in read_manifests(lived.store)}
    payload = json.dumps({"source": "simulated", "reason": "clicks fell"})
    for event in EVENTS:
        command = [str(SCRIPTS / "prefect"), "event", "emit", event, "--resource-id", "a-test", "--payload", payload]
        subprocess.run(command, env=command_environment(stack), check=True, capture_output=True)

    def ended() -> dict[str, Manifest]:
        new = [manifest for manifest in runs_of("simulated", lived.store) if manifest.run_id not in before]
        found = {manifest.flow: manifest for manifest in new if manifest.ended_at}
        return found if set(found) == set(EVENTS.values()) else {}

    found = until(ended, LIMIT_SECONDS, poll_seconds=1)
    assert found["rollback"].parameters == {"source": "simulated", "reason": "clicks fell", "to": None}
    assert "to roll back to" in str(found["rollback"].error) or "nothing to roll back" in str(found["rollback"].error)
    assert (found["ingest"].status, found["train"].status) == ("completed", "completed")


def test_no_secret_is_in_a_log_a_manifest_a_page_or_the_database(lived: Lived, stack: Settings) -> None:
    credentials = Credentials.load(Layout.of(stack).credentials_file)
    secrets = [credentials.prefect_password, credentials.bridge_token]
    secrets += [credentials.keys(role).secret_access_key for role in get_args(Role)]
    texts = {str(log): log.read_bytes() for log in Path(stack.home, "logs").iterdir()}
    texts |= {str(file): file.read_bytes() for file in Path(stack.home, "prefect").glob("prefect.db*")}
    texts |= {
        item.key: lived.store.get(item.key) for prefix in ("runs/", "reports/") for item in lived.store.list(prefix)
    }
    assert len(texts) > 15
    assert {name for name, text in texts.items() if any(secret.encode() in text for secret in secrets)} == set()
