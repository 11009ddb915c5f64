"""Where the contract asks for approval, a run waits for a person, and without an answer the champion stays."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from lib.waits import until

from liftloop.settings import Settings
from liftloop.stack.initialise import command_environment
from liftloop.stack.prefect_api import ask

# Judges nothing: it asks about a version that has passed one check, and prints what the flow then goes on with.
FLOW = """
import sys
from prefect import flow
from liftloop.gate.verdict import Check, Verdict
from tasks.approval import approve

VERDICT = Verdict(
    source="shop", version=sys.argv[1], champion=None, fingerprint="f", rows=1, rewards=1, scores={},
    checks=(Check("pass", "as good", "1", "1", id="accuracy", title="accuracy"),),
)

@flow(name="asks")
def asks() -> None:
    verdict = approve(VERDICT, None)
    print("DECIDED", verdict.verdict, "|", verdict.checks[-1].reason, "|", verdict.checks[-1].observed, flush=True)

asks()
"""


@pytest.fixture
def project(tmp_path: Path) -> Callable[[str], Path]:
    """A folder with one contract that asks for approval within some time."""

    def make(within: str) -> Path:
        text = Path("tests/faults/shop.yaml").read_text()
        contract = yaml.safe_load(text) | {"approval": "required", "approval_within": within}
        (tmp_path / "contracts").mkdir()
        (tmp_path / "contracts" / "shop.yaml").write_text(yaml.safe_dump(contract))
        return tmp_path

    return make


@contextmanager
def asking(settings: Settings, folder: Path, version: str) -> Iterator["subprocess.Popen[str]"]:
    environment = command_environment(settings) | {"PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(
        [sys.executable, "-c", FLOW, version],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def paused_run(settings: Settings) -> dict[str, Any]:
    """The run that waits, once its form is stored, which Prefect does after the run is paused."""
    paused = {"flow_runs": {"state": {"type": {"any_": ["PAUSED"]}}}}
    (run,) = until(lambda: ask(settings, "/flow_runs/filter", paused), what="a run that is paused")
    form = {"prefix": run["state"]["state_details"]["run_input_keyset"]["schema"]}
    until(lambda: ask(settings, f"/flow_runs/{run['id']}/input/filter", form), what="the form of the paused run")
    return dict(run)


def answer(settings: Settings, run: dict[str, Any], **form: str) -> Any:
    return ask(settings, f"/flow_runs/{run['id']}/resume", {"run_input": form})


@pytest.mark.parametrize(
    ("decision", "verdict"), [("promote", "promote"), ("refuse", "refuse")], ids=["promote", "refuse"]
)
def test_a_person_decides(stack: Settings, project: Callable[[str], Path], decision: str, verdict: str) -> None:
    folder, version = project("10m"), uuid4().hex
    with asking(stack, folder, version) as process:
        run = paused_run(stack)
        said = answer(stack, run, decision=decision, approver="Ada", reason="the margin is thin")
        assert said["status"] == "ACCEPT"
        output, _ = process.communicate(timeout=240)
    assert f"DECIDED {verdict} | Ada: the margin is thin | {decision}" in output
    with asking(stack, folder, version) as process:  # about this version nobody is asked again
        output, _ = process.communicate(timeout=240)
    assert f"DECIDED {verdict} | Ada: the margin is thin | {decision}" in output


def test_a_form_that_is_not_filled_in_is_refused(stack: Settings, project: Callable[[str], Path]) -> None:
    with asking(stack, project("10m"), uuid4().hex) as process:
        run = paused_run(stack)
        for form in ({"decision": "perhaps", "approver": "Ada", "reason": "?"}, {"decision": "promote"}):
            assert answer(stack, run, **form)["status"] == "REJECT"
        assert answer(stack, run, decision="refuse", approver="Ada", reason="no")["status"] == "ACCEPT"
        output, _ = process.communicate(timeout=240)
    assert "DECIDED refuse" in output


@pytest.mark.slow
def test_without_an_answer_the_champion_stays(stack: Settings, project: Callable[[str], Path]) -> None:
    with asking(stack, project("3s"), uuid4().hex) as process:
        output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert "DECIDED refuse | no approval within 0:00:03 | no answer" in output
    latest = {"flows": {"name": {"any_": ["asks"]}}, "sort": "START_TIME_DESC", "limit": 1}
    (run,) = ask(stack, "/flow_runs/filter", latest)
    assert run["state_type"] in {"COMPLETED", "FAILED"}  # Prefect's server fails a run whose pause was too long
