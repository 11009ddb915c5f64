"""Real parts for the tests: an object store, and the whole embedded stack, each once per test process."""

import os
import random
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import hypothesis
import pytest
from lib.projects import REPOSITORY, SettingsIn, make_project
from lib.servers import free_port, server
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from liftloop.settings import Settings
from liftloop.stack import down, up
from liftloop.stack.addresses import running_settings
from liftloop.stack.layout import Credentials, Layout
from liftloop.stack.parts import store_ports
from liftloop.stack.standalone_store import standalone_object_store
from liftloop.storage.store import Store

# XGBoost's threads wait for each other in a loop, for as long as other processes have the cores; so they sleep instead.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# No test is about time: a busy machine fails none.
hypothesis.settings.register_profile("liftloop", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("liftloop")

pytest_plugins = ["faults.summary"]

TESTS = Path(__file__).parent
LONGEST = [  # a process that begins one of them last would keep the other waiting
    "integration/bridge/test_bridge.py",  # and with it all others of ON_THE_STACK
    "faults/test_matrix.py",
    "integration/provenance/test_lineage_after_crash.py",
    "integration/test_backup.py",
    "unit/landing/test_hostile_files.py",
    "integration/gate/test_judge.py",
    "integration/stack/test_lifecycle.py",
    "integration/training/test_distributed.py",
    "integration/training/test_train.py",
    "integration/gate/test_objective.py",
    "differential/training/test_training.py",
]
ON_THE_STACK = {
    "tests/integration/bridge/test_bridge.py",
    "tests/integration/stack/test_pauses.py",
    "tests/integration/stack/test_schedules.py",
    "tests/integration/tasks/test_approval.py",
    "tests/integration/tasks/test_exclusive.py",
    "tests/integration/test_lifecycle.py",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; `--dist loadfile --no-loadscope-reorder` keeps to this order."""
    items.sort(key=_place)


class _OneStack(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """A file stays in one process, and so do all files with tests of the stack, which then starts once."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return "stack" if file in ON_THE_STACK else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    return _OneStack(config, log) if config.getvalue("dist") == "loadfile" else None


def _place(item: pytest.Item) -> int:
    file = str(item.path.relative_to(TESTS))
    return LONGEST.index(file) if file in LONGEST else len(LONGEST)


@pytest.fixture(scope="session")
def settings_in() -> SettingsIn:
    """Makes settings with a home of its own, on free ports."""
    return _settings_on_free_ports


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """SeaweedFS alone, up in about two seconds; the settings point at it and at no Prefect server."""
    with standalone_object_store(_settings_on_free_ports(tmp_path_factory.mktemp("object-store"))) as settings:
        yield settings


@pytest.fixture(scope="session")
def store(object_store: Settings) -> Store:
    """Of a bucket that all tests share: each keeps to a source or a prefix of its own."""
    return Store(object_store)


@pytest.fixture
def source() -> str:
    return f"s{uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis; what one test writes another may find."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed")
    folder, port = tmp_path_factory.mktemp("redis"), free_port()
    with server([binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)], port):
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture(scope="session")
def stack_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This repository's flows and contracts, without its schedules."""
    project = make_project(tmp_path_factory.mktemp("project") / "liftloop")
    for contract in (REPOSITORY / "contracts").iterdir():
        (project / "contracts" / contract.name).symlink_to(contract)
    return project


@pytest.fixture(scope="session")
def stack(stack_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Object store, Prefect server, worker and bridge; flows run in `stack_project` on these very settings."""
    settings = _settings_on_free_ports(tmp_path_factory.mktemp("stack"))
    running = running_settings(settings, _prepare(settings)[1])
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in running.as_environment().items():
                patch.setenv(name, value)  # the worker's flows see these, whatever a .env file here says
            up(settings, print, project=stack_project, prefect_toml=None)
        yield running
    finally:
        down(settings)


def _prepare(settings: Settings) -> tuple[Layout, Credentials]:
    layout = Layout.of(settings)
    layout.create()
    credentials = Credentials.load(layout.credentials_file)
    credentials.write(layout.credentials_file)
    return layout, credentials


def _settings_on_free_ports(home: Path) -> Settings:
    """Ports below the ephemeral ones, and in another row for every process of pytest-xdist."""
    process, processes = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
    rows = range(12_500 + 10 * int(process.removeprefix("gw")), 22_400, 10 * int(processes))
    for first in random.SystemRandom().sample(rows, k=len(rows)):
        settings = Settings(home=home, s3_port=first, prefect_port=first + 5, bridge_port=first + 6)
        ports = (*store_ports(settings).values(), settings.prefect_port, settings.bridge_port)
        if all(_is_free(port) for port in ports):
            return settings
    raise RuntimeError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0
