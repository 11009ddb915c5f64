"""Imports keep to the diagram in pyproject.toml, processes load what they need, and no secret is committed."""

import re
import subprocess
import sys
from pathlib import Path

from liftloop.storage import keys

SECRET = re.compile(
    r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY|(?i:secret|token|passw\w+|auth)\w*[\"']?\s*[:=]\s*[\"']?\w{20,}"
)
FILES = [
    path for folder in ("liftloop", "tasks", "flows", "bridge", "feature_repo") for path in Path(folder).rglob("*.py")
]
# The command line lands simulated logs, and the demo's last table reads the truth; nothing else knows of either.
KNOWS_THE_SIMULATOR = {"liftloop/cli/data.py", "liftloop/demo/run.py", "liftloop/demo/summary.py"}


def test_imports_keep_to_the_diagram() -> None:
    """The contracts of `[tool.importlinter]` in pyproject.toml."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run([*command, "--no-cache"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_only_the_demo_and_the_landing_of_simulated_logs_name_the_truth() -> None:
    outside = [path for path in FILES if path.parts[:3] != ("liftloop", "datasets", "simulated")]
    assert {str(path) for path in outside if '"truth"' in path.read_text()} <= KNOWS_THE_SIMULATOR


# What a process loads that imports no more than this: deciding waits for nothing, and a plugin needs no loop.
HEAVY = {"boto3", "dask", "distributed", "duckdb", "feast", "great_expectations", "optuna", "prefect", "scipy.stats"}
PLUGINS = {f"liftloop.feast_plugins.{path.stem}" for path in Path("liftloop/feast_plugins").glob("[!_]*.py")}


def loaded_by(*modules: str) -> set[str]:
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_deciding_loads_no_store_query_engine_or_scheduler() -> None:
    modules = {"liftloop.decisions.policy", "liftloop.decisions.candidates", "liftloop.model.model"}
    loaded = loaded_by(*modules)
    assert modules <= loaded
    assert loaded & HEAVY == set()


def test_the_plugins_load_nothing_of_the_loop() -> None:
    ours = {name for name in loaded_by(*PLUGINS) if name.startswith("liftloop.")}
    assert ours >= PLUGINS
    assert {name for name in ours if not name.startswith("liftloop.feast_plugins")} == set()


def test_the_online_reader_loads_no_feast() -> None:
    assert loaded_by("liftloop.feast_plugins.online_reader") & {*HEAVY, "pandas", "pyarrow", "numpy"} == set()


def test_the_repository_holds_no_secret() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True).stdout.decode().split("\0")
    texts = {name: Path(name).read_bytes().decode(errors="ignore") for name in tracked if Path(name).is_file()}
    assert len(texts) > 100
    assert {name: found[0] for name, text in texts.items() if (found := SECRET.search(text))} == {}
    assert {
        name for name in texts if Path(name).name in {"stack.env", "credentials.json", "prefect.toml", ".env"}
    } == set()


def test_no_other_module_spells_a_key_of_the_bucket() -> None:
    prefixes = {value for name, value in vars(keys).items() if name.isupper()}
    assert len(prefixes) == 13
    spelled = re.compile(r"[\"'](" + "|".join(prefixes) + ")")
    others = [path for path in FILES if path != Path("liftloop/storage/keys.py")]
    assert {str(path): found[0] for path in others if (found := spelled.search(path.read_text()))} == {}
