"""What the stack requires before it starts; every error is one line with its remedy."""

import contextlib
import shutil
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from liftloop.settings import Settings
from liftloop.stack.layout import Layout, StackError
from liftloop.stack.parts import SCRIPTS, Part

_RELEASE_SECONDS = 2  # an ending process keeps its ports for a moment


def require_binaries(parts: Sequence[Part], scripts: Path = SCRIPTS) -> None:
    """Require the programs that the parts run."""
    needed = ("supervisord", *(binary for part in parts for binary in part.binaries))
    for binary in dict.fromkeys(needed):
        if not (scripts / binary).exists():
            raise StackError(f"{binary} is not in {scripts}: install requirements.lock into this environment")


def require_free_disk(settings: Settings, layout: Layout) -> None:
    """Require free disk space: on a full disk the object store accepts no writes and ignores SIGTERM."""
    free_bytes = shutil.disk_usage(layout.home).free
    if free_bytes < settings.min_free_bytes:
        raise StackError(
            f"only {free_bytes / 2**20:,.0f} MiB are free in {layout.home}, {settings.min_free_bytes / 2**20:,.0f} are "
            "needed: free up space, set LIFTLOOP_HOME to another disk, or lower LIFTLOOP_MIN_FREE_BYTES"
        )


def require_matching_keys(settings: Settings) -> None:
    """Require that S3 keys are set only together with an endpoint: the embedded store generates its own."""
    if settings.s3_endpoint_url is None and (settings.s3_access_key_id or settings.s3_secret_access_key):
        raise StackError(
            "LIFTLOOP_S3_ACCESS_KEY_ID or _SECRET_ACCESS_KEY is set but LIFTLOOP_S3_ENDPOINT_URL is not: "
            "set all three for your own store, or none for the embedded one"
        )


def require_free_ports(parts: Sequence[Part]) -> None:
    """Require that the parts' ports are used by no other program and no other part."""
    taken_by: dict[int, str] = {}
    for part in parts:
        for port in part.ports:
            if holder := taken_by.get(port) or _holder(port):
                raise StackError(
                    f"port {port} of the {part.name} is taken by {holder}: "
                    f"stop it, or set {part.port_setting} to move the {part.name}"
                )
        taken_by |= dict.fromkeys(part.ports, f"the {part.name}")


def _holder(port: int) -> str | None:
    """The program that occupies `port`, or None if it is free."""
    deadline = time.monotonic() + _RELEASE_SECONDS
    while not _is_free(port):
        if time.monotonic() > deadline:
            return _listener(port) or "another program"
        time.sleep(0.05)
    return None


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections may linger
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _listener(port: int) -> str | None:
    """The program that listens on `port`, if the system reveals it."""
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections("tcp"):
            is_here = connection.laddr[1:] == (port,)  # address and port; empty for some states
            if is_here and connection.status == psutil.CONN_LISTEN and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return None
