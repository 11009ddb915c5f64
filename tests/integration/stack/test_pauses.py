"""A pool or a queue that a person has paused is a problem that status names with its remedy."""

import subprocess

import pytest

from liftloop.settings import Settings
from liftloop.stack.initialise import command_environment
from liftloop.stack.parts import SCRIPTS, WORK_POOL
from liftloop.stack.probes import list_pauses

QUEUE = ("default", "--pool", WORK_POOL)


def run(settings: Settings, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = command_environment(settings)
    return subprocess.run([SCRIPTS / command, *arguments], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param("work-pool", (WORK_POOL,), id="pool"),
        pytest.param("work-queue", QUEUE, id="queue", marks=pytest.mark.slow),
    ],
)
def test_a_pause_is_a_problem_until_it_ends(stack: Settings, kind: str, name: tuple[str, ...]) -> None:
    assert list_pauses(stack, WORK_POOL) == []
    assert run(stack, "prefect", kind, "pause", *name).returncode == 0
    (pause,) = list_pauses(stack, WORK_POOL)
    done = run(stack, "liftloop", "status")
    assert done.returncode == 1
    assert pause in " ".join(done.stdout.split())
    remedy = pause.split("`")[1].split()
    assert run(stack, *remedy).returncode == 0
    assert list_pauses(stack, WORK_POOL) == []


def test_a_server_that_is_away_has_no_pauses(object_store: Settings) -> None:
    away = object_store.model_copy(update={"prefect_api_url": "http://127.0.0.1:1/api"})
    assert list_pauses(away, WORK_POOL) == []
