"""Initialises a new stack: work pool, feature registry, deployments, schedules."""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from liftloop.contract.loading import ContractError, load_contracts
from liftloop.contract.suite import load_suite
from liftloop.project import find_project
from liftloop.settings import Settings, load_settings
from liftloop.stack.addresses import user_settings
from liftloop.stack.layout import Layout, StackError, last_line, write_private
from liftloop.stack.lifecycle import Progress, WaitFor, ignore_progress, up
from liftloop.stack.parts import SCRIPTS, WORK_POOL, home_environment, prefect_client, prefect_environment
from liftloop.stack.prefect_api import ask
from liftloop.stack.schedules import update_schedules


@dataclass(frozen=True)
class _Step:
    """One command and the files it depends on; for a deployment also the server's state, which anyone may change."""

    command: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    is_deployment: bool = False

    @property
    def line(self) -> str:
        return " ".join(self.command)

    def digest(self, settings: Settings, project: Path) -> str:
        digest = hashlib.sha256(f"{settings.prefect_api_url} {settings.feast_registry_url}".encode())
        if self.is_deployment:
            digest.update(str(_deployed(settings)).encode())
        for file in sorted(file for pattern in self.inputs for file in project.glob(pattern)):
            digest.update(f"{file}\0".encode() + file.read_bytes())
        return digest.hexdigest()


def initialise(
    settings: Settings,
    on_progress: Progress,
    wait_for: WaitFor = ignore_progress,
    *,
    project: Path | None = None,
    has_valid_contracts: bool = True,
) -> None:
    """Create the work pool, apply the feature repository, deploy the flows.

    Skips what it has done before for the same server and the same files.

    Args:
        settings: as returned by `up`, or by `load_settings` after it.
        on_progress: called with one line per command.
        wait_for: called with the name of the current command.
        project: the folder with `deployments.yaml`, `flows/` and `feature_repo/`; None: the project's root.
        has_valid_contracts: False leaves out the feature repository, which reads every contract.

    Raises:
        StackError: the stack is not up, or a command failed.
    """
    if settings.prefect_api_url is None:
        raise StackError("there is no Prefect server yet: run `liftloop up` first")
    layout, environment = Layout.of(settings, project), command_environment(settings)
    layout.create()
    file = layout.prefect_folder / "initialised.json"
    done = json.loads(file.read_text()) if file.exists() else {}
    for stage in _stages(settings, layout.project, has_valid_contracts=has_valid_contracts):
        due = [step for step in stage if done.get(step.line) != step.digest(settings, layout.project)]
        for step in due:
            on_progress(step.line)
        wait_for(", ".join(step.line for step in due))
        with ThreadPoolExecutor() as pool:  # each command spends seconds on starting Python
            list(pool.map(lambda step: _run(step, layout, environment), due))
        done |= {step.line: step.digest(settings, layout.project) for step in due}
        write_private(file, json.dumps(done, indent=2))


def start(on_progress: Progress, wait_for: WaitFor = ignore_progress) -> Settings:
    """Everything that `liftloop up` does: bring every part up, initialise the stack, schedule the sources.

    `on_progress` is called with one line per stage, `wait_for` with the name of the part being waited for.

    Raises:
        UserError: a rule cannot be used, or a part does not start; at the end, also if a contract is invalid.
    """
    from liftloop.training.constraints import require_known_constraints  # noqa: PLC0415  (pandas: a second to import)

    contracts, invalid = load_contracts()
    for contract in contracts:
        load_suite(contract)  # so that a broken rule is reported before anything starts
        require_known_constraints(contract)
    settings = up(load_settings(), on_progress, wait_for, prefect_toml=find_project().root / "prefect.toml")
    if invalid:
        on_progress("feast apply: left out, because it reads every contract and one is invalid")
    initialise(settings, on_progress, wait_for, has_valid_contracts=not invalid)
    update_schedules(settings, contracts, invalid, on_progress)
    if invalid:
        raise ContractError("\n".join(map(str, invalid.values())))
    return settings


def command_environment(settings: Settings) -> dict[str, str]:
    """The environment in which any command, in any folder, uses the stack of these settings."""
    layout = Layout.of(settings)
    ours = settings.as_environment() | home_environment(layout)
    if settings.prefect_api_url is None:
        return os.environ | ours
    if _is_server_ours(settings):
        return os.environ | ours | prefect_environment(settings, layout)
    return os.environ | ours | prefect_client(settings)


def _stages(settings: Settings, project: Path, *, has_valid_contracts: bool) -> Iterator[list[_Step]]:
    """Commands by stage; the commands of one stage do not depend on each other."""
    if not _is_server_ours(settings):  # on our server the worker creates its pool
        yield [_Step(("prefect", "work-pool", "create", WORK_POOL, "--type", "process", "--no-prompt"))]
    applied = (
        "feature_repo/**/*.yaml",
        "feature_repo/**/*.py",
        "contracts/*.yaml",
        "liftloop/feast_plugins/*.py",
        "liftloop/features/*.py",
    )
    apply = _Step(("feast", "--chdir", "feature_repo", "apply"), applied)
    command = ("prefect", "deploy", "--all", "--prefect-file", "deployments.yaml", "--no-prompt")
    deploy = _Step(command, ("deployments.yaml", "flows/**/*.py"), is_deployment=True)
    needed = {"feature_repo/feature_store.yaml": apply} if has_valid_contracts else {}
    needed |= {"deployments.yaml": deploy}
    yield [step for file, step in needed.items() if (project / file).exists()]


def _is_server_ours(settings: Settings) -> bool:
    return user_settings(settings).prefect_api_url is None


def _deployed(settings: Settings) -> list[str]:
    """The deployments on our own server; empty for an external one, which its owner manages."""
    if not _is_server_ours(settings):
        return []
    return sorted(deployment["name"] for deployment in ask(settings, "/deployments/filter", {}))


def _run(step: _Step, layout: Layout, environment: Mapping[str, str]) -> None:
    done = subprocess.run(
        [SCRIPTS / step.command[0], *step.command[1:]],
        cwd=layout.project,
        env={**environment, "PWD": str(layout.project)},  # deployments.yaml refers to it
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output = done.stdout.replace("An exception occurred.", "")  # Prefect's last line, which carries no information
    log = layout.log_file("initialise")
    with log.open("a") as file:
        file.write(f"$ {step.line}\n{output}\n")
    is_there = "create" in step.command and "already exists" in " ".join(output.split())  # the message may be wrapped
    if done.returncode != 0 and not is_there:
        raise StackError(f"`{step.line}` failed. The last line of {log}: {last_line(output)}")
