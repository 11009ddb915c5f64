"""Runs take turns on a real server: each has a name, and the one that waits says behind which."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from lib.waits import until

from liftloop.settings import Settings
from liftloop.stack.initialise import command_environment
from liftloop.stack.prefect_api import ask
from liftloop.storage.runs import find_manifest
from liftloop.storage.store import Store

# Works until the file is gone.
FLOW = """
import sys
import time
from pathlib import Path
from tasks.exclusive import exclusive_run
from tasks.flow import recorded_flow
from tasks.final_state import FinalState, completed

@recorded_flow
def takes_turns(source: str) -> FinalState:
    with exclusive_run(source):
        while Path(sys.argv[2]).exists():
            time.sleep(0.1)
    return completed("worked well", "Promoted")

@recorded_flow
def calls(source: str) -> None:
    takes_turns(source)

globals()[sys.argv[3]](source=sys.argv[1])
"""


@contextmanager
def running(
    settings: Settings, source: str, file: Path, flow: str = "takes_turns"
) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", FLOW, source, str(file), flow]
    environment = command_environment(settings) | {"PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
        try:
            yield run
        finally:
            run.kill()


def runs_of(settings: Settings, source: str) -> list[dict[str, Any]]:
    """The runs of a source, oldest first."""
    runs = ask(settings, "/flow_runs/filter", {"sort": "EXPECTED_START_TIME_ASC", "limit": 200})
    return [run for run in runs if run["parameters"].get("source") == source]


def in_state(settings: Settings, source: str, *names: str) -> list[dict[str, Any]]:
    """The runs of a source, as soon as their states have these names."""

    def look() -> list[dict[str, Any]]:
        runs = runs_of(settings, source)
        return runs if [run["state_name"] for run in runs] == [*names] else []

    return until(look, what=f"{names} of {source}")


def test_a_run_that_waits_says_behind_which_and_then_how_it_ended(stack: Settings, tmp_path: Path) -> None:
    source, file = f"s{uuid4().hex[:8]}", tmp_path / "at work"
    file.touch()
    with running(stack, source, file) as first:
        in_state(stack, source, "Running")
        with running(stack, source, file) as second:
            holder, waiter = in_state(stack, source, "Running", "Waiting")
            assert re.fullmatch(rf"takes_turns {source} 20\d\d-\d\d-\d\d #1 \(by hand\)", holder["name"])
            assert waiter["name"] == holder["name"].replace("#1", "#2")
            words = f"waiting for its turn behind {holder['name']}"
            assert waiter["state"]["message"] == words
            until(lambda: find_manifest(Store(stack), waiter["id"]).waits_behind == holder["name"])
            file.unlink()
            output, _ = second.communicate(timeout=240)
        first.communicate(timeout=240)
    assert output.count("waiting for its turn") == output.count(words) == 1
    assert "its turn after" in output
    ended = in_state(stack, source, "Promoted", "Promoted")
    assert {(run["state_type"], run["state"]["message"]) for run in ended} == {("COMPLETED", "worked well")}
    states = ask(stack, f"/flow_run_states/?flow_run_id={waiter['id']}")
    names = [state["name"] for state in sorted(states, key=lambda state: str(state["timestamp"]))]
    assert names == ["Pending", "Running", "Waiting", "Running", "Promoted"]
    assert find_manifest(Store(stack), waiter["id"]).waits_behind is None


def test_runs_of_different_sources_do_not_wait(stack: Settings, tmp_path: Path) -> None:
    source, file = f"s{uuid4().hex[:8]}", tmp_path / "at work"
    file.touch()
    with running(stack, source, file) as first:
        in_state(stack, source, "Running")
        with running(stack, f"{source}b", tmp_path / "none") as other:
            output, _ = other.communicate(timeout=240)
        assert "waiting" not in output
        file.unlink()
        first.communicate(timeout=240)


def test_a_run_within_a_chain_is_named_after_it(stack: Settings, tmp_path: Path) -> None:
    source = f"s{uuid4().hex[:8]}"
    with running(stack, source, tmp_path / "none", "calls") as run:
        output, _ = run.communicate(timeout=240)
    assert run.returncode == 0, output
    found = {each["name"].partition(" ")[0]: each for each in runs_of(stack, source)}
    assert found["calls"]["state_name"] == "Completed"
    assert found["takes_turns"]["name"].endswith("#1 (calls)")
    assert found["takes_turns"]["state_name"] == "Promoted"


def test_a_run_without_a_source_fails_and_names_the_field(stack: Settings, tmp_path: Path) -> None:
    with running(stack, "", tmp_path / "none") as run:
        output, _ = run.communicate(timeout=240)
    assert run.returncode != 0
    assert "MissingParameterError: source empty: an event that starts takes_turns must have source" in output
