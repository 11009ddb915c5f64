"""The backup and restore of docs/operations.md, as written there, across the loss of everything."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from lib.projects import REPOSITORY, SettingsIn, unscheduled, write_deployments
from lib.waits import until

from liftloop.settings import Settings
from liftloop.stack import down
from liftloop.stack.prefect_api import ask
from liftloop.storage.runs import read_manifests
from liftloop.storage.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PARTS_OF_A_PROJECT = ("contracts/simulated.yaml", "deployments.yaml", "expectations", "feature_repo", "flows")
OURS = ("LIFTLOOP_", "PREFECT_")
PORTS = ("s3_port", "prefect_port", "bridge_port")


@dataclass(frozen=True)
class Project:
    """A folder as a user has it, with a stack of its own on free ports."""

    folder: Path
    ports: Settings

    @property
    def home(self) -> Path:
        return self.folder / ".liftloop"

    def shell(self, commands: str) -> str:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        ports = {f"LIFTLOOP_{name.upper()}": str(getattr(self.ports, name)) for name in PORTS}
        done = subprocess.run(
            ["sh", "-ec", commands], cwd=self.folder, env=inherited | ports, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def running(self) -> Settings:
        return Settings(home=self.home, _env_file=self.home / "stack.env")

    def objects(self) -> dict[str, str]:
        return {item.key: item.etag for item in Store(self.running()).list("")}

    def completed_runs(self) -> set[str]:
        """Those that Prefect knows of."""
        body = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
        return {run["id"] for run in ask(self.running(), "/flow_runs/filter", body)}


@pytest.fixture
def project(tmp_path: Path, settings_in: SettingsIn) -> Iterator[Project]:
    for name in PARTS_OF_A_PROJECT:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, tmp_path / name)
    write_deployments(tmp_path, unscheduled())
    (tmp_path / ".venv").symlink_to(REPOSITORY / ".venv")
    project = Project(tmp_path, settings_in(tmp_path / ".liftloop"))
    try:
        yield project
    finally:
        down(project.ports)


@pytest.fixture(scope="module")
def backup_and_restore() -> list[str]:
    """The two blocks of commands under the heading."""
    document = (REPOSITORY / "docs" / "operations.md").read_text()
    section = document.partition("\n## Backup and restore\n")[2].partition("\n## ")[0]
    return re.findall(r"```sh\n(.+?)```", section, re.DOTALL)


def wait_until_served(store: Store) -> None:
    """The chain runs by itself from what landed to the features, and then rests."""
    until(lambda: any(run.status == "completed" for run in read_manifests(store, "materialize")), poll_seconds=1)


def test_backup_and_restore_bring_back_bucket_and_runs(project: Project, backup_and_restore: list[str]) -> None:
    backup, restore = backup_and_restore
    project.shell(".venv/bin/liftloop up; .venv/bin/liftloop simulate --impressions 2000 --days 1")
    wait_until_served(Store(project.running()))
    until(lambda: len(project.completed_runs()) >= 2)  # the server learns of a run's end after the manifest does
    objects, runs = project.objects(), project.completed_runs()
    assert any(key.startswith("lake/simulated/") for key in objects)
    project.shell(backup)
    shutil.rmtree(project.home)  # under the running parts

    project.shell(restore)
    assert objects.items() <= project.objects().items()
    assert runs <= project.completed_runs()
    assert " 0 missing, changed or of unknown producer" in project.shell(".venv/bin/liftloop verify")
    assert "simulated" in project.shell(".venv/bin/liftloop status")  # exit code 0: all is well
