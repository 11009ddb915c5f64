"""Folders in which a stack runs this repository's flows on sources of the test."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from liftloop.settings import Settings

SettingsIn = Callable[[Path], Settings]  # makes settings with that home, on free ports

REPOSITORY = Path(__file__).parents[2]
LINKED = ("flows", "tasks", "bridge", "liftloop", "expectations", "requirements.lock")


def make_project(folder: Path) -> Path:
    """This repository's code and deployments; the clock starts none of them, and no source is declared yet."""
    (folder / "contracts").mkdir(parents=True)
    for name in LINKED:
        (folder / name).symlink_to(REPOSITORY / name)
    shutil.copytree(REPOSITORY / "feature_repo", folder / "feature_repo")  # a link would lead it to the contracts there
    write_deployments(folder, unscheduled())
    return folder


def unscheduled() -> list[dict[str, Any]]:
    """This repository's deployments, paused, so that no clock starts them: a test sees only what it set off itself."""
    document = yaml.safe_load((REPOSITORY / "deployments.yaml").read_text())
    return [deployment | {"paused": True} for deployment in document["deployments"]]


def write_deployments(folder: Path, deployments: list[dict[str, Any]]) -> None:
    document = yaml.safe_load((REPOSITORY / "deployments.yaml").read_text())
    (folder / "deployments.yaml").write_text(yaml.safe_dump(document | {"deployments": deployments}))
