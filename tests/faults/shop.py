"""The project that the matrix runs in: this repository's code, one small source of its own, and what lands for it."""

import io
from functools import cache
from pathlib import Path

import pandas as pd
from lib.gate_lake import make_rows
from lib.projects import make_project

SOURCE = "shop"
CONTRACT = Path(__file__).with_name("shop.yaml")


def make_shop(folder: Path) -> Path:
    """A project folder with one source; the code in it is this repository's."""
    project = make_project(folder)
    (project / "contracts" / CONTRACT.name).symlink_to(CONTRACT)
    return project


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
