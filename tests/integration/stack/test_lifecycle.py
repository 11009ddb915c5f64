"""The embedded stack, really brought up: a whole one for the module, and object stores alone for what goes wrong."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from urllib.error import HTTPError

import boto3
import psutil
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from lib.projects import SettingsIn
from lib.waits import until
from pydantic import SecretStr

from liftloop.settings import Role, Settings
from liftloop.stack import StackError, down, initialise, status, up
from liftloop.stack.initialise import command_environment
from liftloop.stack.layout import Credentials, Layout
from liftloop.stack.parts import SCRIPTS, store_ports
from liftloop.stack.prefect_api import ask
from liftloop.stack.supervisor import Supervisor

PARTS = ["object-store", "prefect-server", "worker", "bridge"]

FLOW = """
import os
from pathlib import Path
from prefect import flow
from liftloop.settings import load_settings

@flow
def note(file: str) -> None:
    settings = load_settings()
    seen = os.getcwd(), settings.s3_endpoint_url, settings.s3_access_key_id, os.environ["GX_ANALYTICS_ENABLED"]
    Path(file).write_text("|".join(map(str, seen)))
"""
DEPLOYMENTS = """
name: project
deployments:
  - name: note
    entrypoint: flows/note.py:note
    work_pool: {name: liftloop, job_variables: {env: {LIFTLOOP_ROLE: ingest}}}
    pull:
      - prefect.deployments.steps.set_working_directory:
          directory: "{{ $PWD }}"
"""
FEATURE_STORE = "project: project\nprovider: local\nregistry: registry.db\noffline_store: {type: duckdb}\n"


@dataclass(frozen=True)
class Lived:
    """A stack that is up, with the folder it was brought up for."""

    settings: Settings  # those that `up` was given
    running: Settings  # those that it returned
    project: Path
    progress: list[str]
    seconds: float  # that `up` took

    def up_again(self) -> list[str]:
        progress: list[str] = []
        up(self.settings, progress.append, project=self.project, prefect_toml=self.project / "prefect.toml")
        return progress

    @property
    def supervisor(self) -> Supervisor:
        return Supervisor(Layout.of(self.settings))


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, settings_in: SettingsIn) -> Iterator[Lived]:
    project = tmp_path_factory.mktemp("project")
    (project / "flows").mkdir()
    (project / "flows" / "note.py").write_text(FLOW)
    (project / "deployments.yaml").write_text(DEPLOYMENTS)
    (project / "feature_repo").mkdir()
    (project / "feature_repo" / "feature_store.yaml").write_text(FEATURE_STORE)
    settings = settings_in(project / ".liftloop")
    progress: list[str] = []
    began = time.monotonic()
    try:
        running = up(settings, progress.append, project=project, prefect_toml=project / "prefect.toml")
        yield Lived(settings, running, project, progress, time.monotonic() - began)
    finally:
        down(settings)


@pytest.fixture
def store_alone(tmp_path: Path, settings_in: SettingsIn) -> Iterator[Settings]:
    """Settings of an object store and a bridge, not up yet; its home's path is too long for a socket."""
    home = tmp_path / ("long-" * 20) / ".liftloop"
    settings = settings_in(home).model_copy(update={"prefect_api_url": "https://prefect.example.org/api"})
    yield settings
    down(settings)


def client(settings: Settings, **changes: Any) -> Any:
    assert settings.s3_secret_access_key is not None
    keys = {
        "aws_access_key_id": settings.s3_access_key_id,
        "aws_secret_access_key": settings.s3_secret_access_key.get_secret_value(),
    }
    return boto3.client("s3", endpoint_url=settings.s3_endpoint_url, region_name="us-east-1", **(keys | changes))


def http_status(url: str, method: str = "GET", body: bytes | None = None) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body, method=method), timeout=60) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


def command(running: Settings, project: Path, *words: str) -> str:
    environment = command_environment(running)
    done = subprocess.run(
        [SCRIPTS / words[0], *words[1:]], cwd=project, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_up_tells_of_each_part_in_turn(lived: Lived) -> None:
    assert [line.partition(":")[0] for line in lived.progress] == PARTS
    assert [(part.name, part.state) for part in status(lived.running)] == [(name, "running") for name in PARTS]


def test_up_tells_how_to_log_in_but_not_the_password(lived: Lived) -> None:
    assert lived.progress[1].endswith(f"log in with LIFTLOOP_PREFECT_AUTH, see {lived.settings.generated_file}")
    assert secrets_of(lived)["prefect"] in lived.settings.generated_file.read_text()
    assert not any(secret in line for secret in secrets_of(lived).values() for line in lived.progress)


def test_generated_credentials_read_and_write_the_bucket(lived: Lived) -> None:
    store = client(lived.running)
    store.put_object(Bucket="liftloop", Key="a/b", Body=b"body")
    assert store.get_object(Bucket="liftloop", Key="a/b")["Body"].read() == b"body"
    assert [each["Key"] for each in store.list_objects_v2(Bucket="liftloop", Prefix="a/")["Contents"]] == ["a/b"]
    assert ".ready" not in [each["Key"] for each in store.list_objects_v2(Bucket="liftloop")["Contents"]]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"aws_secret_access_key": "wrong"}, "SignatureDoesNotMatch"),
        ({"aws_access_key_id": "nobody"}, "InvalidAccessKeyId"),
        ({"config": Config(signature_version=UNSIGNED)}, "AccessDenied"),
    ],
)
def test_all_others_are_denied(lived: Lived, changes: dict[str, Any], code: str) -> None:
    with pytest.raises(ClientError, match=code):
        client(lived.running, **changes).list_objects_v2(Bucket="liftloop")


def test_the_generated_credentials_administer_nothing(lived: Lived) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        client(lived.running).create_bucket(Bucket="other")


def test_no_way_leads_around_the_signature(lived: Lived) -> None:
    """The HTTP ports of the filer and the master could read, write and delete all without an S3 identity."""
    store, ports = client(lived.running), store_ports(lived.settings)
    store.put_object(Bucket="liftloop", Key="guarded", Body=b"body")
    filer, master = (f"http://127.0.0.1:{ports[f'{service}.port']}" for service in ("filer", "master"))
    for url, method in [
        (f"{filer}/buckets/liftloop/guarded", "GET"),
        (f"{filer}/buckets/liftloop/guarded", "DELETE"),
        (f"{filer}/buckets/liftloop/other", "PUT"),
        (f"{filer}/buckets/", "GET"),
        (f"{master}/dir/assign?collection=liftloop", "GET"),
        (f"{master}/col/delete?collection=liftloop", "GET"),
    ]:
        assert http_status(url, method, b"x" if method == "PUT" else None) >= 400, url
    assert store.get_object(Bucket="liftloop", Key="guarded")["Body"].read() == b"body"


def test_everything_listens_on_loopback_only(lived: Lived) -> None:
    listening = [
        connection.laddr
        for process in lived.supervisor.members()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    hosts, ports = ({address[i] for address in listening} for i in range(2))
    assert hosts == {"127.0.0.1"}
    assert ports >= {*store_ports(lived.settings).values(), lived.settings.prefect_port, lived.settings.bridge_port}


def secrets_of(lived: Lived) -> dict[str, str]:
    """Every secret that `up` made, by whose it is."""
    made = Credentials.load(Layout.of(lived.settings).credentials_file)
    roles = {str(role): made.keys(role).secret_access_key for role in get_args(Role)}
    tokens = {"prefect": made.prefect_password, "bridge": made.bridge_token}
    volume = {"volume": made.volume_key, "volume-read": made.volume_read_key}
    return {**roles, **tokens, **volume, "filer": made.filer_write_key, "filer-read": made.filer_read_key}


def test_every_secret_is_only_where_it_is_needed_and_closed_to_others(lived: Lived) -> None:
    stack, kept, config = {"stack.env"}, {"credentials.json"}, {"supervisord.conf"}
    s3 = kept | {"s3-identities.json"}
    expected = {
        **{"operator": s3 | stack, "ingest": s3 | {"ingest.env"}, "train": s3 | {"train.env"}},
        **{"serve": s3 | {"serve.env"}, "audit": s3 | {"audit.env"}},
        **{"prefect": kept | stack | config | {"prefect.toml"}, "bridge": kept | stack | config},
        **dict.fromkeys(["volume", "volume-read", "filer", "filer-read"], kept | config),
    }
    files = [file for file in lived.project.rglob("*") if file.is_file()]  # logs and Prefect's database too
    for owner, secret in secrets_of(lived).items():
        holders = [file for file in files if secret.encode() in file.read_bytes()]
        assert {file.name for file in holders} == expected[owner], owner
        assert {file.stat().st_mode & 0o777 for file in holders} == {0o600}
    assert lived.settings.home.stat().st_mode & 0o777 == 0o700


def test_the_prefect_server_is_healthy_and_phones_nobody(lived: Lived) -> None:
    assert ask(lived.running, "/health") is True
    assert ask(lived.running, "/admin/settings")["server"]["analytics_enabled"] is False
    leases = ask(lived.running, "/admin/settings")["server"]["concurrency"]["lease_storage"]
    assert leases == "prefect.server.concurrency.lease_storage.filesystem"


@pytest.mark.parametrize("auth", [None, "liftloop:", "liftloop:guess"])
def test_without_the_password_the_prefect_server_tells_nothing(lived: Lived, auth: str | None) -> None:
    stranger = lived.running.model_copy(update={"prefect_auth": SecretStr(auth) if auth else None})
    with pytest.raises(HTTPError, match="401"):
        ask(stranger, "/admin/settings")


def test_the_ui_asks_for_the_password(lived: Lived) -> None:
    base = f"{lived.running.prefect_api_url}".removesuffix("/api")
    with urllib.request.urlopen(f"{base}/ui-settings", timeout=60) as answer:
        assert (ui := json.load(answer))["auth"] == "BASIC"
        assert ui["csrf_enabled"] is True


def test_a_post_without_a_csrf_token_is_refused(lived: Lived) -> None:
    assert lived.running.prefect_auth is not None
    password = base64.b64encode(lived.running.prefect_auth.get_secret_value().encode()).decode()
    url = f"{lived.running.prefect_api_url}/flow_runs/filter"
    request = urllib.request.Request(url, data=b"{}", headers={"Authorization": f"Basic {password}"})
    with pytest.raises(HTTPError, match="403"):
        urllib.request.urlopen(request, timeout=60)
    assert ask(lived.running, "/flow_runs/filter", {}) is not None


def test_events_of_our_clients_arrive(lived: Lived) -> None:
    """One who is not let in would lose them without a word."""
    emit = "from prefect.events import emit_event; emit_event('shop.opened', {'prefect.resource.id': 'shop'})"
    environment = command_environment(lived.running)
    subprocess.run([sys.executable, "-c", emit], cwd=lived.project, env=environment, check=True)
    wanted = {"filter": {"event": {"name": ["shop.opened"]}}}
    until(lambda: ask(lived.running, "/events/filter", wanted)["total"] == 1)


def test_a_page_of_another_site_may_not_call_the_prefect_server(lived: Lived) -> None:
    request = urllib.request.Request(
        f"{lived.running.prefect_api_url}/health", headers={"Origin": "http://other.example"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert "access-control-allow-origin" not in answer.headers


def test_the_plain_prefect_command_finds_our_server_and_leaves_the_users_home_alone(
    lived: Lived, tmp_path: Path
) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    shown = subprocess.run(
        [SCRIPTS / "prefect", "config", "view"], cwd=lived.project, env=environment, capture_output=True, text=True
    ).stdout
    assert f"PREFECT_API_URL='{lived.running.prefect_api_url}'" in shown
    assert f"PREFECT_HOME='{lived.settings.home / 'prefect'}'" in shown
    assert secrets_of(lived)["prefect"] not in shown
    created = subprocess.run(
        [SCRIPTS / "prefect", "variable", "set", "spoken_to", "yes"],
        cwd=lived.project,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert created.returncode == 0, created.stdout + created.stderr
    assert ask(lived.running, "/variables/name/spoken_to")["value"] == "yes"
    assert list(tmp_path.iterdir()) == []


def test_a_second_up_is_quick_and_starts_nothing(lived: Lived) -> None:
    before = lived.supervisor.processes()
    began = time.monotonic()
    with ThreadPoolExecutor() as threads:
        first, second = threads.map(lambda _: lived.up_again(), range(2))
    assert time.monotonic() - began < lived.seconds / 2  # 0.1 s each on an idle machine, and 20 s at first
    assert len(first) == len(second) == len(PARTS)
    assert lived.supervisor.processes() == before


def test_a_stopped_part_is_started_again(lived: Lived) -> None:
    before = lived.supervisor.processes()
    subprocess.run([SCRIPTS / "supervisorctl", "-c", Layout.of(lived.settings).config_file, "stop", "object-store"])
    assert status(lived.running)[0].state == "stopped"
    lived.up_again()
    after = lived.supervisor.processes()
    assert after["object-store"].pid != before["object-store"].pid
    assert after["prefect-server"] == before["prefect-server"]


def test_initialise_makes_pool_features_and_deployments_once(lived: Lived) -> None:
    def run() -> list[str]:
        progress: list[str] = []
        initialise(lived.running, progress.append, project=lived.project)
        return progress

    assert [line.split()[:2] for line in run()] == [
        ["feast", "--chdir"],
        ["prefect", "deploy"],
    ]
    assert run() == []
    assert ask(lived.running, "/work_pools/liftloop")["type"] == "process"
    assert ask(lived.running, "/deployments/name/note/note")["work_pool_name"] == "liftloop"
    assert (lived.project / "feature_repo" / "registry.db").exists()

    deploy = "prefect deploy --all --prefect-file deployments.yaml --no-prompt"
    (lived.project / "flows" / "note.py").write_text(FLOW + "\n")
    assert run() == [deploy]

    delete = [str(SCRIPTS / "prefect"), "--no-prompt", "deployment", "delete", "note/note"]
    subprocess.run(delete, env=command_environment(lived.running), check=True)
    assert run() == [deploy]
    assert run() == []


def test_the_worker_runs_a_flow_on_our_settings_in_the_project(lived: Lived, tmp_path: Path) -> None:
    initialise(lived.running, print, project=lived.project)
    seen = tmp_path / "seen"
    command(
        lived.running, lived.project, "prefect", "deployment", "run", "note/note", "--param", f"file={seen}", "--watch"
    )
    ingest = lived.running.as_role("ingest")
    assert ingest.s3_access_key_id != lived.running.s3_access_key_id
    assert seen.read_text() == f"{lived.project}|{ingest.s3_endpoint_url}|{ingest.s3_access_key_id}|false"


def test_a_command_that_fails_is_named_with_its_log(lived: Lived) -> None:
    broken = lived.project / "feature_repo" / "broken.py"
    broken.write_text("import no_such_module\n")
    try:
        with pytest.raises(
            StackError, match=r"`feast --chdir feature_repo apply` failed\. .*initialise\.log.*no_such_module"
        ):
            initialise(lived.running, print, project=lived.project)
    finally:
        broken.unlink()


def test_down_leaves_no_process_and_no_port_and_keeps_the_data(store_alone: Settings) -> None:
    running = up(store_alone, print, prefect_toml=None)
    client(running).put_object(Bucket="liftloop", Key="kept", Body=b"body")
    layout = Layout.of(store_alone)
    assert not layout.socket.is_relative_to(layout.home)
    down(running)
    assert Supervisor(layout).members() == []
    assert not any(is_listening(port) for port in store_ports(store_alone).values())
    assert not layout.socket_folder.exists()
    down(running)

    # The old addresses were written, and are ours.
    moved = running.model_copy(update={"s3_port": running.s3_port + 5, "bridge_port": running.s3_port})
    again = up(moved, print, prefect_toml=None)
    assert again.s3_access_key_id == running.s3_access_key_id
    assert client(again).get_object(Bucket="liftloop", Key="kept")["Body"].read() == b"body"


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_a_killed_supervisor_leaves_nothing_that_hinders_the_next_up(store_alone: Settings) -> None:
    running = up(store_alone, print, prefect_toml=None)
    client(running).put_object(Bucket="liftloop", Key="kept", Body=b"body")
    supervisor = Supervisor(Layout.of(store_alone))
    parts = supervisor.processes()
    store = parts["object-store"]
    (daemon,) = (
        process for process in supervisor.members() if process.pid not in {each.pid for each in parts.values()}
    )
    daemon.kill()
    daemon.wait()
    assert supervisor.processes() == {}

    up(running, print, prefect_toml=None)
    assert len(supervisor.members()) == 3
    assert supervisor.processes()["object-store"].pid != store.pid
    assert client(running).get_object(Bucket="liftloop", Key="kept")["Body"].read() == b"body"


def test_two_first_ups_at_once_make_one_stack(store_alone: Settings, tmp_path: Path) -> None:
    code = "from liftloop.settings import load_settings; from liftloop.stack import up; up(load_settings(), print)"
    environment = command_environment(store_alone)
    one, two = (
        subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    )
    for each in (one, two):
        assert "object-store: ready" in each.communicate(timeout=120)[0]
        assert each.returncode == 0
    assert len(Supervisor(Layout.of(store_alone)).members()) == 3


def test_a_taken_port_is_told_before_anything_starts(lived: Lived, store_alone: Settings) -> None:
    same = store_alone.model_copy(update={"s3_port": lived.settings.s3_port})
    with pytest.raises(
        StackError, match=r"port \d+ of the object-store is taken by weed \(pid \d+\): .*LIFTLOOP_S3_PORT"
    ):
        up(same, print, prefect_toml=None)
    assert Supervisor(Layout.of(same)).members() == []


@pytest.mark.slow
def test_a_part_that_does_not_come_up_is_told_with_its_log(store_alone: Settings) -> None:
    store = Layout.of(store_alone).store_folder
    store.mkdir(parents=True)
    (store / "filerldb2").write_text("not a folder")
    with pytest.raises(
        StackError, match=r"object-store did not start within \d+ s\. The last line of .*object-store\.log: ."
    ) as error:
        up(store_alone, print, prefect_toml=None)
    assert "\n" not in str(error.value)
