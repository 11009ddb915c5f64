"""The project that the matrix runs in: this repository's code, one small source of its own, and what lands for it."""

import io
import shutil
from functools import cache
from pathlib import Path

import pandas as pd
import yaml
from lib.gate_lake import make_rows

REPOSITORY = Path(__file__).parents[2]
SOURCE = "shop"
CONTRACT = Path(__file__).with_name("shop.yaml")
LINKED = ("flows", "tasks", "bridge", "liftloop", "expectations", "requirements.lock")


def make_project(folder: Path) -> Path:
    """A project folder with one source; the code in it is this repository's."""
    (folder / "contracts").mkdir(parents=True)
    for name in LINKED:
        (folder / name).symlink_to(REPOSITORY / name)
    shutil.copytree(REPOSITORY / "feature_repo", folder / "feature_repo")  # a link would lead it to the contracts there
    (folder / "contracts" / CONTRACT.name).symlink_to(CONTRACT)
    (folder / "deployments.yaml").write_text(yaml.safe_dump(_deployments()))
    return folder


def _deployments() -> dict[str, object]:
    """This repository's, without what a clock starts: only what lands may start something here."""
    found: dict[str, object] = yaml.safe_load((REPOSITORY / "deployments.yaml").read_text())
    for deployment in found["deployments"]:  # type: ignore[attr-defined]
        deployment["schedules"] = []
    return found


@cache
def landed_files() -> dict[str, bytes]:
    """Name -> Parquet. The last file makes the others mature; it also repeats rows of the first, and has bad ones."""
    first, second, last = (pd.DataFrame(make_rows(day, days)) for day, days in ((0, 3), (3, 2), (7, 1)))
    again = first.iloc[:20]
    bad = last.iloc[:10].assign(impression_id=[f"bad{number}" for number in range(10)], propensity=0.0)
    frames = {"1": first, "2": second, "3": pd.concat([last, again, bad])}
    return {f"{name}.parquet": _parquet(frame) for name, frame in frames.items()}


@cache
def landed_rows() -> int:
    """In all files together."""
    return sum(len(pd.read_parquet(io.BytesIO(body))) for body in landed_files().values())


def _parquet(frame: pd.DataFrame) -> bytes:
    body = io.BytesIO()
    frame.to_parquet(body, index=False)
    return body.getvalue()
