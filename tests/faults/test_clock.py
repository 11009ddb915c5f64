"""The clock of every Python process jumps: server, worker, bridge and flows, an hour ahead and back again.

SeaweedFS is a static binary that no library can deceive, and it refuses what was signed by another clock than its own.
On one machine its clock would jump, too: so the proxy signs anew what the others signed. (libfaketime 0.9.10 cannot be
used: without a false CLOCK_MONOTONIC it breaks Python's sleep, and with one no time limit means anything.)
"""

import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lib.projects import SettingsIn

from faults.cell import FIT, LIMIT_SECONDS, TILES, recover, undisturbed
from faults.loop import Loop, Outcome, running_loop
from faults.proxy import Point
from faults.strikes import Strike

SOURCE_CODE = Path(__file__).with_name("clock.c")
COMPILER = shutil.which("cc")

pytestmark = [
    pytest.mark.faults_all,
    pytest.mark.timeout(3 * LIMIT_SECONDS),
    pytest.mark.skipif(COMPILER is None, reason="without a C compiler no clock can be shifted"),
]


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds how far the clock is off."""
    file = tmp_path_factory.mktemp("clock") / "offset"
    file.write_bytes(_seconds(0))
    return file


@pytest.fixture(scope="module")
def loop(settings_in: SettingsIn, clock: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    library = clock.with_name("clock.so")
    subprocess.run([str(COMPILER), "-O2", "-shared", "-fPIC", "-o", library, SOURCE_CODE], check=True)
    environment = {"LD_PRELOAD": str(library), "CLOCK_OFFSET_FILE": str(clock)}
    settings, folder = settings_in(tmp_path_factory.mktemp("home")), tmp_path_factory.mktemp("clock-project")
    with running_loop(settings, folder / "project", environment) as loop:
        loop.proxy.sign_anew(loop.keys())
        yield loop


@pytest.fixture(scope="module")
def reference(loop: Loop) -> Outcome:
    return undisturbed(loop)


@pytest.mark.parametrize(("seconds", "point"), [(3600, FIT), (0, TILES)], ids=["ahead", "back"])
def test_the_loop_outlives_a_jump_of_the_clock(
    loop: Loop,
    reference: Outcome,
    clock: Path,
    seconds: int,
    point: Point,
    record_property: Callable[[str, object], None],
) -> None:
    assert recover(loop, reference, _jump(clock, seconds), point, record_property) == []


def _jump(clock: Path, seconds: int) -> Strike:
    def jump_clock(_: Loop) -> str:
        with clock.open("r+b") as file:  # in place: it is mapped into every process
            file.write(_seconds(seconds))
        return f"clock set to {seconds:+} s"

    return jump_clock


def _seconds(offset: int) -> bytes:
    return struct.pack("l", offset)
