"""What a new stack needs once: work pool, concurrency limits, feature registry, deployments."""

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from liftloop.settings import Settings
from liftloop.stack.addresses import user_settings, variables
from liftloop.stack.layout import Layout, StackError, write_private
from liftloop.stack.parts import SCRIPTS, WORK_POOL, prefect_environment

_DEPLOYMENTS = "deployments.yaml"
_FEATURE_REPO = "feature_repo"


def initialise(
    settings: Settings, sources: Sequence[str], on_progress: Callable[[str], None], *, project: Path = Path()
) -> None:
    """Create the work pool and one ingest limit per source, apply the feature repository, deploy the flows.

    Does nothing where it has been done for the same sources, flows, features and server.

    Args:
        settings: those that `up` returned, or that `load_settings` finds after it.
        sources: names of the log sources; each gets the concurrency limit `ingest-<source>` of one.
        on_progress: is given one line per stage.
        project: the folder with `deployments.yaml`, `flows/` and `feature_repo/`.

    Raises:
        StackError: nothing was brought up before, or a command failed.
    """
    if settings.prefect_api_url is None:
        raise StackError("there is no Prefect server yet: run `liftloop up` first")
    layout = Layout.of(settings, project)
    stamp_file = layout.prefect_folder / "initialised"
    stamp = _stamp(settings, sources, layout.project)
    if stamp_file.exists() and stamp_file.read_text() == stamp:
        return
    for command in _commands(sources, layout.project):
        on_progress(" ".join(command))
        _run(command, layout, command_environment(settings))
    write_private(stamp_file, stamp)


def command_environment(settings: Settings) -> dict[str, str]:
    """The environment in which any command, in any folder, works with the stack that `settings` describe."""
    layout = Layout.of(settings)
    ours = variables(settings) | {"LIFTLOOP_HOME": str(layout.home)}
    if settings.prefect_api_url is None:
        return os.environ | ours
    if user_settings(settings).prefect_api_url is None:
        return os.environ | ours | prefect_environment(layout, settings.prefect_api_url)
    return os.environ | ours | {"PREFECT_API_URL": settings.prefect_api_url}


def _commands(sources: Sequence[str], project: Path) -> Iterator[list[str]]:
    yield ["prefect", "work-pool", "create", WORK_POOL, "--type", "process", "--no-prompt"]
    for source in sources:
        yield ["prefect", "gcl", "create", f"ingest-{source}", "--limit", "1", "--no-prompt"]
    if (project / _FEATURE_REPO / "feature_store.yaml").exists():
        yield ["feast", "--chdir", _FEATURE_REPO, "apply"]
    if (project / _DEPLOYMENTS).exists():
        yield ["prefect", "deploy", "--all", "--prefect-file", _DEPLOYMENTS, "--no-prompt"]


def _run(command: Sequence[str], layout: Layout, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [SCRIPTS / command[0], *command[1:]],
        cwd=layout.project,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with layout.log_file("initialise").open("a") as log:
        log.write(f"$ {' '.join(command)}\n{done.stdout}\n")
    is_there = "create" in command and "already exists" in " ".join(done.stdout.split())  # the answer may be wrapped
    if done.returncode != 0 and not is_there:
        last = (done.stdout.strip().splitlines() or ["no output"])[-1]
        raise StackError(f"`{' '.join(command)}` failed; all it said is in {layout.log_file('initialise')}: {last}")


def _stamp(settings: Settings, sources: Sequence[str], project: Path) -> str:
    """A digest of all that the commands depend on."""
    digest = hashlib.sha256(f"{settings.prefect_api_url} {settings.feast_registry_url} {sorted(sources)}".encode())
    inputs = (_DEPLOYMENTS, f"{_FEATURE_REPO}/**/*.yaml", f"{_FEATURE_REPO}/**/*.py", "flows/**/*.py", "tasks/**/*.py")
    for file in sorted(file for pattern in inputs for file in project.glob(pattern)):
        digest.update(f"{file}\0".encode() + file.read_bytes())
    return digest.hexdigest()
