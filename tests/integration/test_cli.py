"""The command as a user types it, on a real object store."""

import os
import subprocess
from pathlib import Path

import pytest

from liftloop.settings import Settings
from liftloop.stack.addresses import variables
from liftloop.stack.parts import SCRIPTS
from liftloop.store import Store

REPOSITORY = Path(__file__).parents[2]


def liftloop(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | variables(settings)
    return subprocess.run(
        [SCRIPTS / "liftloop", *arguments], env=environment, cwd=REPOSITORY, capture_output=True, text=True
    )


def test_land_mirrors_a_folder(object_store: Settings, tmp_path: Path) -> None:
    (tmp_path / "2026-01-05").mkdir()
    (tmp_path / "2026-01-05" / "part-900.parquet").write_bytes(b"rows")
    done = liftloop(object_store, "land", "simulated", str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "landed 1 files of simulated\n")
    assert Store(object_store).get("landing/simulated/2026-01-05/part-900.parquet") == b"rows"


def test_nothing_is_held_before_anything_landed(object_store: Settings) -> None:
    done = liftloop(object_store, "held", "open_bandit")
    assert done.returncode == 0
    assert done.stdout.split() == ["file", "status", "error", "reasons"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("land", "nowhere", "."),
            "source 'nowhere' is not declared in contracts/; declared: ['open_bandit', 'simulated']",
        ),
        (("show", "zzz"), "0 runs on record begin with 'zzz'"),
        (("lineage", "no/such/object"), "no run on record wrote or read 'no/such/object'"),
    ],
)
def test_what_a_user_can_mend_is_one_line(object_store: Settings, arguments: tuple[str, ...], words: str) -> None:
    done = liftloop(object_store, *arguments)
    assert done.returncode == 1
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_store_that_does_not_answer_is_one_line(object_store: Settings) -> None:
    nowhere = object_store.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:1"})
    done = liftloop(nowhere, "runs")
    assert done.returncode == 1
    assert "`liftloop up` starts it" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_setting_is_named(object_store: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFTLOOP_COLOUR", "red")
    done = liftloop(object_store, "status")
    assert done.returncode == 1
    assert "LIFTLOOP_COLOUR='red' is not a setting" in " ".join(done.stderr.split())
