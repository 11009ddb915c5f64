"""The project: the folder whose contracts, rules and flows are in force."""

import os
from dataclasses import dataclass
from pathlib import Path

from liftloop.errors import UserError

PROJECT_VARIABLE = "LIFTLOOP_PROJECT"


class ProjectError(UserError):
    """`LIFTLOOP_PROJECT` names no project."""


@dataclass(frozen=True)
class Project:
    """What an owner edits; all paths are absolute."""

    root: Path

    @property
    def contracts_folder(self) -> Path:
        return self.root / "contracts"

    @property
    def suite_file(self) -> Path:
        return self.root / "expectations" / "impressions.json"

    @property
    def lock_file(self) -> Path:
        return self.root / "requirements.lock"


def find_project() -> Project:
    """What `LIFTLOOP_PROJECT` names, else the nearest folder with `contracts/`, here or above; else this folder.

    Raises:
        ProjectError: the folder that the variable names has no `contracts/`.
    """
    here = Path.cwd()
    if named := os.environ.get(PROJECT_VARIABLE):
        project = Project(here.joinpath(named).resolve())
        if not project.contracts_folder.is_dir():
            raise ProjectError(f"{PROJECT_VARIABLE}={named}: it has no folder contracts/. Name a project's root")
        return project
    return Project(next((folder for folder in (here, *here.parents) if (folder / "contracts").is_dir()), here))
