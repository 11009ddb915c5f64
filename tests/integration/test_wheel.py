"""The wheel in an environment of its own: the library alone, from whatever folder it is used in."""

import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(REPOSITORY)], check=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel; its dependencies are those of the environment that runs the tests."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python3*/site-packages")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)], check=True)
    (dependencies,) = Path(sys.prefix).glob("lib/python3*/site-packages")
    (site / "dependencies.pth").write_text(f"{dependencies}\n")  # a path in a .pth file brings no .pth files of its own
    return folder


def run(environment: Path, folder: Path, *command: str, **variables: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LIFTLOOP_", "PYTHONPATH"))}
    arguments = [str(environment / "bin" / command[0]), *command[1:]]
    done = subprocess.run(arguments, cwd=folder, env=kept | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_the_library_alone(wheel: Path) -> None:
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"liftloop"}


def test_help_and_a_contract_of_another_folder(environment: Path, tmp_path: Path) -> None:
    assert "promote" in run(environment, tmp_path, "liftloop", "--help")
    load = (
        "import liftloop; from liftloop.contract.loading import load_contract;"
        " print(load_contract('simulated').source, liftloop.__file__)"
    )
    source, file = run(environment, tmp_path, "python", "-c", load, LIFTLOOP_PROJECT=str(REPOSITORY)).split()
    assert source == "simulated"
    assert Path(file).is_relative_to(environment)


FEATURE_STORE = """
project: shop
registry: data/registry.db
provider: local
entity_key_serialization_version: 3
offline_store:
  type: liftloop.feast_plugins.offline_store.AsofDuckDBOfflineStore
online_store:
  type: liftloop.feast_plugins.online_store.WideSqliteOnlineStore
  path: data/online_features.db
"""

REPOSITORY_OF_FEATURES = """
from datetime import datetime, timedelta, timezone
from pathlib import Path
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource
from feast.types import Float64, Int64

now = datetime.now(timezone.utc).replace(microsecond=0)
times = [now - timedelta(hours=2), now - timedelta(hours=1)]
rows = pd.DataFrame({"ad_id": ["ad-1", "ad-1"], "time": times, "clicks": [1, 2], "ctr": [0.1, 0.2]})
Path("data").mkdir()
rows.to_parquet("data/ads.parquet")
feast = FeatureStore(repo_path=".")
source = FileSource(path=str(Path("data/ads.parquet").absolute()), timestamp_field="time")
ad = Entity(name="ad", join_keys=["ad_id"])
schema = [Field(name="clicks", dtype=Int64), Field(name="ctr", dtype=Float64)]
feast.apply([ad, FeatureView(name="ads", entities=[ad], ttl=timedelta(days=7), schema=schema, source=source)])
feast.materialize(now - timedelta(days=1), now)
asked = pd.DataFrame({"ad_id": ["ad-1", "ad-2"], "event_timestamp": [now - timedelta(minutes=90)] * 2})
print(feast.get_historical_features(asked, ["ads:clicks"]).to_df()["clicks"].tolist())
"""


def test_the_examples_of_the_plugin_pages_run(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text(FEATURE_STORE)
    assert run(environment, tmp_path, "python", "-c", REPOSITORY_OF_FEATURES).strip().endswith("[1.0, nan]")
    (example,) = re.findall(
        r"```python\n(.*?)```", (REPOSITORY / "docs/plugins/online_store.md").read_text(), re.DOTALL
    )
    loaded = "import sys; print([values, sorted(name for name in sys.modules if name.startswith('liftloop'))])"
    read = run(environment, tmp_path, "python", "-c", example + loaded)
    ours = ["liftloop", *(f"liftloop.feast_plugins{name}" for name in ("", ".online_reader", ".wire_format"))]
    assert read.strip() == str([[(2, 0.2), (None, None)], ours])
