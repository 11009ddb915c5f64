"""The crash matrix: every part killed at every stage, and a store and a disk that fail for a while.

Within five minutes the loop must come to what an undisturbed run came to, byte by byte: lake, features, champion.
`make test-all` runs one cell each for flow, store and bridge, `make test-faults` all; the table is printed at the end.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from lib.projects import SettingsIn

from faults import strikes
from faults.cell import (
    AUDIT,
    CARD,
    CHAMPION,
    FEATURES,
    FIT,
    FRAME,
    LAKE,
    LANDING,
    LEDGER,
    LIMIT_SECONDS,
    ONLINE,
    PROMOTION,
    TILES,
    VERSION,
    recover,
    undisturbed,
)
from faults.loop import Loop, Outcome, running_loop
from faults.proxy import Point
from faults.strikes import Strike

pytestmark = pytest.mark.timeout(3 * LIMIT_SECONDS)

#                                ingest    materialize  train     promote
MATRIX: dict[Strike, tuple[Point, ...]] = {
    strikes.kill_flow:            (LEDGER,   FEATURES,    FIT,      CHAMPION),
    strikes.kill_worker:          (LAKE,     ONLINE,      VERSION,  CARD),
    strikes.kill_worker_and_flow:           (TILES,                 AUDIT),
    strikes.kill_server:          (LEDGER,   TILES,       FIT,      CHAMPION),
    strikes.kill_store:           (LAKE,     FEATURES,    FRAME,    PROMOTION),
    strikes.kill_bridge:          (LANDING,  ONLINE,      VERSION,  CHAMPION),
    strikes.kill_dask_worker:                            (FIT,),
    strikes.end_worker:                                  (FRAME,),
    strikes.answer_500:           (LEDGER,),
    strikes.answer_503:                     (FEATURES,),
    strikes.answer_late:                                 (FRAME,),
    strikes.fill_disk:                      (TILES,),
}  # fmt: skip
FAST = {(strikes.kill_flow, LEDGER), (strikes.kill_store, FRAME), (strikes.kill_bridge, LANDING)}


def _cells() -> Iterator[ParameterSet]:
    for strike, points in MATRIX.items():
        for point in points:
            marks = pytest.mark.slow if (strike, point) in FAST else pytest.mark.faults_all
            yield pytest.param(strike, point, id=f"{strike.__name__}-{point.name}".replace(" ", "_"), marks=marks)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """On a small disk of its own, where this account may mount one."""
    folder = tmp_path_factory.mktemp("home")
    mount = ["mount", "-t", "tmpfs", "-o", "size=2g,mode=0700", "tmpfs", str(folder)]
    is_mounted = os.getuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    yield folder
    if is_mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def loop(settings_in: SettingsIn, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    with running_loop(settings_in(home), tmp_path_factory.mktemp("faults") / "project") as loop:
        yield loop


@pytest.fixture(scope="module")
def reference(loop: Loop) -> Outcome:
    return undisturbed(loop)


@pytest.mark.parametrize(("strike", "point"), list(_cells()))
def test_the_loop_recovers(
    loop: Loop, reference: Outcome, strike: Strike, point: Point, record_property: Callable[[str, object], None]
) -> None:
    if strike is strikes.fill_disk and not loop.layout.home.is_mount():
        pytest.skip("only root may mount a small disk to fill")
    assert recover(loop, reference, strike, point, record_property) == []
