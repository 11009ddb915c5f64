"""A promotion that waits for a person outlives what waiting brings: leases that end, and the death of its process."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from lib.projects import SettingsIn

from faults.cell import LIMIT_SECONDS
from faults.loop import Loop, kill, running_loop, wait_until
from faults.shop import SOURCE
from liftloop.registry.registry import Registry
from liftloop.stack.prefect_api import ask

pytestmark = [pytest.mark.faults_all, pytest.mark.timeout(4 * LIMIT_SECONDS)]

LONGER_THAN_A_LEASE_SECONDS = 270  # Prefect's leases of concurrency slots last 60 to 240 s


@pytest.fixture(scope="module")
def loop(settings_in: SettingsIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    project = tmp_path_factory.mktemp("approval") / "project"
    with running_loop(settings_in(tmp_path_factory.mktemp("home")), project) as loop:
        contract = project / "contracts" / f"{SOURCE}.yaml"
        wanted = yaml.safe_load(contract.read_text()) | {"approval": "required"}
        contract.unlink()  # a link
        contract.write_text(yaml.safe_dump(wanted))
        yield loop


def test_a_promotion_waits_and_asks_again_after_a_crash(loop: Loop) -> None:
    loop.land()
    wait_until(lambda: _paused(loop) != [], LIMIT_SECONDS)
    time.sleep(LONGER_THAN_A_LEASE_SECONDS)
    (waiting,) = _paused(loop)
    assert waiting["run_count"] == 1
    kill(*loop.flow_processes())
    wait_until(lambda: any(run["run_count"] == 2 for run in _paused(loop)), LIMIT_SECONDS)
    assert Registry(loop.store, SOURCE).champion() is None
    (waiting,) = _paused(loop)
    form = {"decision": "promote", "approver": "Ada", "reason": "it is better"}
    said = ask(loop.settings, f"/flow_runs/{waiting['id']}/resume", {"run_input": form})
    assert said["status"] == "ACCEPT"
    wait_until(lambda: Registry(loop.store, SOURCE).champion() is not None and not loop.faults(), LIMIT_SECONDS)
    assert waiting["id"] in {run["id"] for run in loop.runs() if run["state_type"] == "COMPLETED"}


def _paused(loop: Loop) -> list[dict[str, Any]]:
    return [run for run in loop.runs() if run["state_type"] == "PAUSED"]
