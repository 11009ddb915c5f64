"""The parts of the embedded stack: how each is started, where it listens, and how it is secured."""

import socket
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from liftloop.settings import Settings
from liftloop.stack import wait
from liftloop.stack.addresses import bridge_url, prefect_url, running_settings, s3_url
from liftloop.stack.certificate import certificate_environment
from liftloop.stack.layout import HOST, Credentials, Layout
from liftloop.stack.probes import accepts_writes, is_polling

OBJECT_STORE = "object-store"
PREFECT_SERVER = "prefect-server"
WORK_POOL = "liftloop"

SCRIPTS = Path(sysconfig.get_path("scripts"))

# SeaweedFS expects a service's gRPC port 10,000 above its HTTP port, regardless of its configuration.
_GRPC_OFFSET = 10_000
_STORE_SERVICES = ("s3", "master", "volume", "filer", "admin")

_NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "FEAST_USAGE": "False",
}


@dataclass(frozen=True)
class Part:
    """One supervised process."""

    name: str
    command: tuple[str, ...]
    binaries: tuple[str, ...]  # that it needs in the environment's scripts folder
    address: str
    is_ready: Callable[[float], bool] = field(repr=False)  # called with its start time in epoch seconds
    environment: Mapping[str, str] = field(repr=False)
    ports: tuple[int, ...] = ()
    port_setting: str = ""  # the setting that moves the ports
    stop_limit_seconds: int = 10  # after that it is killed
    priority: int = 10  # lower starts first and stops last
    note: str = ""  # for the user who opens its address


def embedded_parts(settings: Settings, layout: Layout, credentials: Credentials) -> list[Part]:
    """The parts that are not external by the user's settings, in starting order."""
    running = running_settings(settings, credentials)
    store = [object_store(running, layout, credentials)] if settings.s3_endpoint_url is None else []
    prefect = [prefect_server(running, layout), worker(running, layout)] if settings.prefect_api_url is None else []
    return [*store, *prefect, bridge(running, layout, is_server_ours=settings.prefect_api_url is None)]


def store_ports(settings: Settings) -> dict[str, int]:
    """Every port of the object store by its flag: five from `s3_port` on, and the gRPC port of each."""
    http = {f"{service}.port": settings.s3_port + offset for offset, service in enumerate(_STORE_SERVICES)}
    return http | {f"{flag}.grpc": port + _GRPC_OFFSET for flag, port in http.items()}


def object_store(settings: Settings, layout: Layout, credentials: Credentials) -> Part:
    """SeaweedFS, open only to signed S3 requests on loopback."""
    ports = store_ports(settings)
    flags = {
        "dir": layout.store_folder,
        "bucket": settings.bucket,
        "ip": HOST,
        "ip.bind": HOST,
        "s3.config": identities_file(layout),
        "filer.localSocket": layout.socket_folder / "filer.sock",
        "s3.localSocket": layout.socket_folder / "s3.sock",
        "disableHttp": "true",  # the filer's and the master's HTTP APIs ignore S3 identities
        "master.telemetry": "false",
        "webdav": "false",
        "admin.ui": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "idleTimeout": 10,  # seconds; on shutdown it waits this long for idle connections
        **ports,
    }
    return Part(
        name=OBJECT_STORE,
        command=(str(SCRIPTS / "weed"), "-logtostderr=true", "mini", *(f"-{key}={flags[key]}" for key in flags)),
        binaries=("weed",),
        address=s3_url(settings),
        is_ready=lambda _: accepts_writes(
            s3_url(settings), settings.bucket, credentials.s3_access_key_id, credentials.s3_secret_access_key
        ),
        environment={
            "TMPDIR": str(layout.temporary_folder),
            "WEED_JWT_SIGNING_KEY": credentials.volume_key,
            "WEED_JWT_SIGNING_READ_KEY": credentials.volume_read_key,
            "WEED_JWT_FILER_SIGNING_KEY": credentials.filer_write_key,
            "WEED_JWT_FILER_SIGNING_READ_KEY": credentials.filer_read_key,
            "GOGC": "50",  # less memory for a little more CPU; with a fixed limit it would collect continuously
            "AWS_ACCESS_KEY_ID": "",  # otherwise it would accept these keys as an administrator's
            "AWS_SECRET_ACCESS_KEY": "",
            **certificate_environment(layout),
            **_notices(settings),
        },
        ports=tuple(ports.values()),
        port_setting="LIFTLOOP_S3_PORT",
        stop_limit_seconds=15,
    )


def remove_store_sockets(settings: Settings) -> None:
    """Remove sockets left in /tmp by a killed store; SeaweedFS puts them there regardless of its configuration."""
    for port in store_ports(settings).values():
        for left in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"):
            if not _is_listened_to(left):
                left.unlink(missing_ok=True)


def _is_listened_to(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def identities_file(layout: Layout) -> Path:
    return layout.supervisor_folder / "s3-identities.json"


def _notices(settings: Settings) -> dict[str, str]:
    """Environment variables that make the store notify the bridge of every landed object."""
    options = {
        "ENABLED": "true",
        "ENDPOINT": f"{bridge_url(settings)}/landing",
        "BEARER_TOKEN": settings.as_environment()["LIFTLOOP_BRIDGE_TOKEN"],
        "EVENT_TYPES": "create update",
        "PATH_PREFIXES": f"/buckets/{settings.bucket}/landing/",
    }
    return {f"WEED_NOTIFICATION_WEBHOOK_{name}": value for name, value in options.items()}


def prefect_server(settings: Settings, layout: Layout) -> Part:
    """The Prefect server on SQLite, protected by a password."""
    address = prefect_url(settings)
    port = settings.prefect_port
    return Part(
        name=PREFECT_SERVER,
        command=(str(SCRIPTS / "prefect"), "server", "start", "--host", HOST, "--port", str(port)),
        binaries=("prefect",),
        address=address,
        is_ready=lambda _: wait.answers(f"{address}/health"),
        environment=prefect_environment(settings, layout)
        | {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{layout.prefect_folder / 'prefect.db'}",
            "PREFECT_SERVER_API_AUTH_STRING": settings.as_environment()["LIFTLOOP_PREFECT_AUTH"],
            "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
            # The server's own pages may call it; other sites may not.
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{port},http://localhost:{port}",
            # Releases the concurrency limits held by a crashed run.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT_SERVER_DATABASE_TIMEOUT": "30",  # seconds; SQLite may be slow on a loaded machine
            "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "3",
        },
        ports=(port,),
        port_setting="LIFTLOOP_PREFECT_PORT",
        note=f"log in with LIFTLOOP_PREFECT_AUTH, see {settings.generated_file}",
    )


def worker(settings: Settings, layout: Layout) -> Part:
    """One process worker, started as soon as the server answers; it creates its work pool if needed."""
    start = (str(SCRIPTS / "prefect"), "worker", "start", "--pool", WORK_POOL, "--type", "process")
    return Part(
        name="worker",
        command=(*_after_server(settings), *start, "--name", "liftloop", "--install-policy", "never"),
        binaries=("prefect",),
        address=f"{prefect_url(settings)}/work_pools/{WORK_POOL}",
        is_ready=partial(is_polling, settings, WORK_POOL),
        environment=prefect_environment(settings, layout)
        | {
            "PREFECT_WORKER_QUERY_SECONDS": "2",  # not 10, so that runs start soon
            "OMP_WAIT_POLICY": "PASSIVE",  # XGBoost threads that wait sleep, and leave the core to others
        },
        priority=20,
    )


def bridge(settings: Settings, layout: Layout, *, is_server_ours: bool) -> Part:
    """The bridge, which starts runs for landed files and for work that no event has started."""
    address = bridge_url(settings)
    serve = (sys.executable, "-m", "bridge")
    return Part(
        name="bridge",
        command=(*_after_server(settings), *serve) if is_server_ours else serve,
        binaries=(),
        address=address,
        is_ready=lambda _: wait.answers(f"{address}/health"),
        environment=(prefect_environment(settings, layout) if is_server_ours else prefect_client(settings))
        | home_environment(layout)
        | {"LIFTLOOP_ROLE": "ingest", "LIFTLOOP_BRIDGE_PORT": str(settings.bridge_port)},
        ports=(settings.bridge_port,),
        port_setting="LIFTLOOP_BRIDGE_PORT",
        priority=30,
    )


def _after_server(settings: Settings) -> tuple[str, ...]:
    """The prefix of a command that must wait for our Prefect server."""
    return sys.executable, "-I", "-S", wait.__file__, f"{prefect_url(settings)}/health"


def prefect_environment(settings: Settings, layout: Layout) -> dict[str, str]:
    """The environment of our Prefect processes: our server, a separate home instead of the user's, no telemetry."""
    ours = {
        "PREFECT_HOME": str(layout.prefect_folder),
        "PREFECT_PROFILES_PATH": str(layout.prefect_folder / "profiles.toml"),
        "PREFECT_PROFILE": "ephemeral",  # a built-in profile, so that the user's own does not apply
    }
    return prefect_client(settings) | home_environment(layout) | ours


def home_environment(layout: Layout) -> dict[str, str]:
    """The environment that keeps our processes and their children inside the home folder."""
    return {
        "LIFTLOOP_HOME": str(layout.home),
        "TMPDIR": str(layout.temporary_folder),
        "MPLCONFIGDIR": str(layout.home / "matplotlib"),  # its font cache, otherwise in the user's home
    }


def prefect_client(settings: Settings) -> dict[str, str]:
    """The environment that points any client to the Prefect server in the settings, embedded or external."""
    auth = {"PREFECT_API_AUTH_STRING": settings.prefect_auth.get_secret_value()} if settings.prefect_auth else {}
    return {"PREFECT_API_URL": str(settings.prefect_api_url), **auth, **_NO_TELEMETRY}
