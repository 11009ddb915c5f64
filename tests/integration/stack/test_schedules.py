"""Schedules of contracts on a real Prefect server; its deployments are paused, so that no clock starts a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from lib.contracts import minimal_contract, minimal_document
from lib.projects import unscheduled, write_deployments

from liftloop.contract.contract import Contract
from liftloop.contract.loading import ContractError
from liftloop.settings import Settings
from liftloop.stack import initialise, start
from liftloop.stack.layout import Layout
from liftloop.stack.prefect_api import ask
from liftloop.stack.schedules import FLOWS, update_schedules

SHOP = {"train": "5 4 * * *", "evaluate": "6 * * * *"}
MARKET = {"train": "7 4 * * *", "evaluate": "8 * * * *", "timezone": "Europe/Berlin"}
WEEKLY = {"schedule": {"cron": "0 9 * * 1", "timezone": "UTC"}, "parameters": {"source": "shop"}}


def contract(source: str, schedules: dict[str, str]) -> Contract:
    return minimal_contract(source=source, schedules=schedules)


@dataclass
class Server:
    """The schedules on the Prefect server: as `liftloop up` makes them, and as the Prefect UI changes them."""

    settings: Settings
    project: Path
    lines: list[str] = field(default_factory=list)

    def up(self, *contracts: Contract, invalid: tuple[str, ...] = ()) -> list[str]:
        """The lines that it prints."""
        self.lines.clear()
        update_schedules(self.settings, contracts, invalid, self.lines.append)
        return self.lines

    def deployment(self, flow: str) -> dict[str, Any]:
        found: dict[str, Any] = ask(self.settings, f"/deployments/name/{flow}/{flow}")
        return found

    def schedules(self, flow: str) -> dict[str | None, dict[str, Any]]:
        return {each["slug"]: each for each in self.deployment(flow)["schedules"]}

    @property
    def crons(self) -> dict[str | None, str]:
        """Those of all sources, with their timezone, and whether they are inactive."""
        return {
            slug: f"{each['schedule']['cron']} {each['schedule']['timezone']}" + ("" if each["active"] else " inactive")
            for flow in ("train", "evaluate")
            for slug, each in self.schedules(flow).items()
        }

    def edit(self, flow: str, slug: str, method: str = "PATCH", **changes: Any) -> None:
        path = f"/deployments/{self.deployment(flow)['id']}/schedules/{self.schedules(flow)[slug]['id']}"
        ask(self.settings, path, changes, method)

    def add(self, flow: str, schedule: dict[str, Any]) -> None:
        ask(self.settings, f"/deployments/{self.deployment(flow)['id']}/schedules", [schedule])

    def deploy_again(self, *without: str) -> None:
        """Deploy because the file changed, first without some of the deployments."""
        for name in without:
            ask(self.settings, f"/deployments/{self.deployment(name)['id']}", None, "DELETE")
        write_deployments(self.project, [each | {"description": "changed"} for each in unscheduled()])
        lines: list[str] = []
        initialise(self.settings, lines.append, project=self.project)
        assert lines[-1].startswith("prefect deploy"), lines

    def clear(self) -> None:
        for flow in FLOWS:
            for each in self.deployment(flow)["schedules"]:
                ask(self.settings, f"/deployments/{each['deployment_id']}/schedules/{each['id']}", None, "DELETE")
        Layout.of(self.settings).prefect_folder.joinpath("schedules.json").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def deployed(stack: Settings, stack_project: Path) -> Settings:
    write_deployments(stack_project, unscheduled())
    initialise(stack, print, project=stack_project)
    return stack


@pytest.fixture
def server(deployed: Settings, stack_project: Path) -> Iterator[Server]:
    """With the schedules of one source, `shop`."""
    server = Server(deployed, stack_project)
    server.clear()
    server.up(contract("shop", SHOP))
    yield server
    server.clear()
    write_deployments(stack_project, unscheduled())


def test_a_new_contract_adds_its_schedules(server: Server) -> None:
    assert server.up(contract("shop", SHOP), contract("market", MARKET)) == [
        "schedule train-market: 7 4 * * * Europe/Berlin",
        "schedule evaluate-market: 8 * * * * Europe/Berlin",
    ]
    assert server.crons == {
        "train-shop": "5 4 * * * UTC",
        "train-market": "7 4 * * * Europe/Berlin",
        "evaluate-shop": "6 * * * * UTC",
        "evaluate-market": "8 * * * * Europe/Berlin",
    }
    assert server.schedules("evaluate")["evaluate-market"]["parameters"] == {"source": "market"}
    assert server.schedules("verify").keys() == {"nightly"}
    assert server.up(contract("shop", SHOP), contract("market", MARKET)) == []


def test_a_removed_contract_takes_its_schedules_with_it_and_brings_them_back(server: Server) -> None:
    server.up(contract("shop", SHOP), contract("market", MARKET))
    server.edit("train", "train-shop", schedule={"cron": "1 1 * * *", "timezone": "UTC"})
    server.add("train", WEEKLY)
    removed = "removed, because no contract declares it now"
    lines = server.up(contract("market", MARKET))
    assert lines == [f"schedule train-shop: {removed}", f"schedule evaluate-shop: {removed}"]
    assert server.crons.keys() == {"train-market", "evaluate-market", None}

    server.up(contract("shop", SHOP), contract("market", MARKET))
    assert server.crons["train-shop"] == "5 4 * * * UTC"


def test_edits_in_the_ui_survive(server: Server) -> None:
    server.edit("train", "train-shop", schedule={"cron": "1 1 * * *", "timezone": "Asia/Tokyo"})
    server.edit("evaluate", "evaluate-shop", active=False)
    server.edit("verify", "nightly", "DELETE")
    server.add("train", WEEKLY)
    edited = {
        "train-shop": "1 1 * * * Asia/Tokyo",
        None: "0 9 * * 1 UTC",
        "evaluate-shop": "6 * * * * UTC inactive",
    }
    assert server.up(contract("shop", SHOP)) == []
    assert server.crons == edited
    assert server.schedules("verify") == {}

    server.deploy_again()
    assert server.up(contract("shop", SHOP)) == []
    assert server.crons == edited


def test_a_schedule_that_was_switched_off_and_on_in_the_ui_gets_its_source_back(server: Server) -> None:
    server.edit("train", "train-shop", active=False)
    server.edit("train", "train-shop", active=True)
    assert server.schedules("train")["train-shop"]["parameters"] == {}  # Prefect's mistake
    server.up(contract("shop", SHOP))
    assert server.schedules("train")["train-shop"]["parameters"] == {"source": "shop"}


def test_edits_without_a_record_survive(server: Server) -> None:
    server.edit("train", "train-shop", schedule={"cron": "1 1 * * *", "timezone": "UTC"})
    Layout.of(server.settings).prefect_folder.joinpath("schedules.json").unlink()
    assert server.up(contract("shop", SHOP)) == []
    assert server.crons["train-shop"] == "1 1 * * * UTC"


def test_a_changed_contract_wins_over_edits_of_the_same_schedule(server: Server) -> None:
    server.edit("train", "train-shop", schedule={"interval": 3600.0}, active=False)
    server.edit("evaluate", "evaluate-shop", active=False)
    (line,) = server.up(contract("shop", SHOP | {"train": "30 6 * * *"}))
    assert line.startswith("schedule train-shop: 30 6 * * * UTC, as declared now, instead of {'interval': 3600.0")
    assert line.endswith("inactive")
    assert server.crons == {"train-shop": "30 6 * * * UTC", "evaluate-shop": "6 * * * * UTC inactive"}


def test_a_schedule_that_the_contract_switches_off_is_removed_and_may_be_the_users_own(server: Server) -> None:
    without = contract("shop", SHOP | {"train": "none"})
    assert server.up(without) == ["schedule train-shop: removed, because no contract declares it now"]
    server.add("train", WEEKLY | {"slug": "train-shop"})
    assert server.up(without) == []
    assert server.crons == {"train-shop": "0 9 * * 1 UTC", "evaluate-shop": "6 * * * * UTC"}


@pytest.mark.slow
def test_a_deployment_that_is_made_again_gets_its_schedules(server: Server) -> None:
    server.deploy_again("train")
    assert server.up(contract("shop", SHOP)) == ["schedule train-shop: 5 4 * * * UTC"]


def test_an_invalid_contract_keeps_its_schedules_and_no_other_from_its_own(server: Server) -> None:
    lines = server.up(contract("market", MARKET), invalid=("shop",))
    assert [line.split()[1] for line in lines] == ["train-market:", "evaluate-market:"]
    assert server.crons.keys() == {"train-shop", "train-market", "evaluate-shop", "evaluate-market"}
    assert server.up(contract("shop", SHOP), contract("market", MARKET)) == []


@contextmanager
def declared(folder: Path, *documents: dict[str, Any]) -> Iterator[None]:
    files = {folder / f"{document['source']}.yaml": document for document in documents}
    for file, document in files.items():
        file.write_text(yaml.safe_dump(document))
    yield
    for file in files:
        file.unlink()


@pytest.mark.slow
def test_up_schedules_the_others_and_then_reports_an_invalid_contract(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.settings.as_environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LIFTLOOP_PROJECT", str(server.project))
    lines: list[str] = []
    market, broken = (minimal_document(source=source) for source in ("market", "broken"))
    with (
        declared(server.project / "contracts", market, broken | {"schedules": {"train": "61 * * * *"}}),
        pytest.raises(ContractError, match=r"broken\.yaml: schedules\.train: '61 \* \* \* \*': bad minute"),
    ):
        start(lines.append)
    (server.project / "prefect.toml").unlink()
    assert [line for line in lines if line.startswith("feast")] == [
        "feast apply: left out, because it reads every contract and one is invalid"
    ]
    assert {"train-market", "evaluate-market", "train-simulated", "train-open_bandit"} <= server.crons.keys()
