"""Arrows go one way, and nothing that decides can reach the simulator's truth."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|(?i:secret|token|passw\w+|auth)\w*[\"']?\s*[:=]\s*[\"']?\w{20,}"
)
FOLDERS = ("liftloop", "tasks", "flows", "bridge", "feature_repo")
FILES = [path for folder in FOLDERS for path in Path(folder).rglob("*.py")]
MAY_IMPORT = {
    "liftloop": {"liftloop"},
    "tasks": {"tasks", "liftloop"},
    "flows": {"flows", "tasks"},
    "bridge": {"bridge", "liftloop"},
    "feature_repo": {"liftloop"},
}
OURS = set(FOLDERS)
# The command line lands simulated logs, and the demo's last table reads the truth; nothing else knows of either.
KNOWS_THE_SIMULATOR = {"liftloop/cli/data.py", "liftloop/demo/run.py", "liftloop/demo/summary.py"}


def imports(path: Path) -> set[str]:
    """The dotted names that a module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_one_way(path: Path) -> None:
    own = {name.split(".")[0] for name in imports(path)} & OURS
    assert own <= MAY_IMPORT[path.parts[0]]


@pytest.mark.parametrize("path", list(Path("liftloop").rglob("*.py")), ids=str)
def test_the_library_knows_nothing_of_prefect(path: Path) -> None:
    assert not any(name.split(".")[0] == "prefect" for name in imports(path))


def test_no_step_can_reach_the_truth() -> None:
    outside = [path for path in FILES if path.parts[:3] != ("liftloop", "datasets", "simulated")]
    knows = {
        str(path) for path in outside if any(name.startswith("liftloop.datasets.simulated") for name in imports(path))
    }
    assert knows == KNOWS_THE_SIMULATOR
    names_it = {str(path) for path in outside if '"truth"' in path.read_text()}
    assert names_it <= KNOWS_THE_SIMULATOR


def test_the_repository_holds_no_secret() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True).stdout.decode().split("\0")
    texts = {name: Path(name).read_bytes().decode(errors="ignore") for name in tracked if Path(name).is_file()}
    assert len(texts) > 100
    assert {name: found[0] for name, text in texts.items() if (found := SECRET.search(text))} == {}
    assert {
        name for name in texts if Path(name).name in {"stack.env", "credentials.json", "prefect.toml", ".env"}
    } == set()


def test_nothing_unpickles() -> None:
    unsafe = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    assert {str(path): found for path in FILES if (found := imports(path) & unsafe)} == {}
