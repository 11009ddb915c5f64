"""Starts and stops the embedded stack, and reports its status."""

import fcntl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from liftloop.settings import Settings
from liftloop.stack.addresses import (
    running_settings,
    user_settings,
    write_generated_file,
    write_keys_files,
    write_prefect_toml,
)
from liftloop.stack.certificate import write_certificate
from liftloop.stack.checks import require_binaries, require_free_disk, require_free_ports, require_matching_keys
from liftloop.stack.layout import Credentials, Layout, StackError, last_line, write_private
from liftloop.stack.parts import (
    OBJECT_STORE,
    PREFECT_SERVER,
    Part,
    embedded_parts,
    identities_file,
    remove_store_sockets,
)
from liftloop.stack.roles import identities
from liftloop.stack.supervisor import STOPPED, Supervised, Supervisor, config_text
from liftloop.stack.wait import LIMIT_SECONDS

Progress = Callable[[str], None]
WaitFor = Callable[[str], object]


def ignore_progress(_words: str) -> None:
    """The default where no one watches the progress."""


@dataclass(frozen=True)
class PartStatus:
    """One line of `liftloop status`."""

    name: str
    state: Literal["running", "starting", "stopped", "failed", "external"]
    address: str
    detail: str


def up(
    settings: Settings,
    on_progress: Progress,
    wait_for: WaitFor = ignore_progress,
    *,
    project: Path | None = None,
    prefect_toml: Path | None = None,
) -> Settings:
    """Start every part that is not external by the user's settings, and wait until each is ready.

    Running parts are left alone, so a second call is quick. Concurrent calls run one after the other.

    Args:
        settings: files, ports and external parts.
        on_progress: called with one line per stage.
        wait_for: called with the name of the part being waited for.
        project: the folder in which the worker runs flows; None: the project's root.
        prefect_toml: the file that points the `prefect` command to our server; None: write no file.

    Returns:
        The settings with the addresses and keys of the running parts, as `load_settings` will read them.

    Raises:
        StackError: a port is taken, a program is missing, the disk is full, `home` is not writable,
            or a part does not start.
    """
    own = user_settings(settings)
    require_matching_keys(own)
    layout = Layout.of(own, project)
    layout.create()
    with exclusive(layout):
        credentials = Credentials.load(layout.credentials_file)
        parts = embedded_parts(own, layout, credentials)
        supervisor, config = Supervisor(layout), config_text(parts, layout)
        if is_new := not supervisor.is_configured(config):
            require_binaries(parts)
            require_free_disk(own, layout)
            _end_former(supervisor, on_progress)
            require_free_ports(parts)
        running = _write_files(own, layout, credentials)  # the parts read them when they start
        if is_new:
            supervisor.start(config)
        else:
            _start_stopped(parts, supervisor)
        if prefect_toml and not write_prefect_toml(prefect_toml, own, running, layout):
            on_progress(f"{prefect_toml} is your own and stays: point it to {running.prefect_api_url} yourself")
        for part in parts:
            wait_for(part.name)
            _wait_until_ready(part, supervisor, on_progress)
    return running


def down(settings: Settings) -> None:
    """Stop everything that `up` started, and return once all processes have ended. The data stays.

    Raises:
        StackError: a process does not end.
    """
    layout = Layout.of(settings)
    with exclusive(layout) if layout.lock_file.exists() else nullcontext():
        Supervisor(layout).stop()
        layout.remove_temporary_folders()
        remove_store_sockets(settings)


def status(settings: Settings) -> list[PartStatus]:
    """The status of each part, from supervisor and from the part itself."""
    own = user_settings(settings)
    layout = Layout.of(own)
    supervised = Supervisor(layout).processes()
    parts = embedded_parts(own, layout, Credentials.load(layout.credentials_file))
    embedded = [_status_of(part, supervised.get(part.name, STOPPED), layout) for part in parts]
    return embedded + _external(own)


@contextmanager
def exclusive(layout: Layout) -> Iterator[None]:
    """One process at a time."""
    with layout.lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start_stopped(parts: Sequence[Part], supervisor: Supervisor) -> None:
    supervised = supervisor.processes()
    for part in parts:
        if not supervised[part.name].is_up:
            require_free_ports([part])
            supervisor.start_part(part.name)


def _end_former(supervisor: Supervisor, on_progress: Progress) -> None:
    if supervisor.members():
        on_progress("stopping parts from an earlier start with other settings, or without their supervisor")
        supervisor.stop()


def _write_files(settings: Settings, layout: Layout, credentials: Credentials) -> Settings:
    """Write all secrets where they are needed; returns the settings with the secrets of the embedded parts."""
    running = running_settings(settings, credentials)
    credentials.write(layout.credentials_file)
    if settings.s3_endpoint_url is None:
        write_private(identities_file(layout), identities(settings, credentials))
        write_keys_files(running, credentials)
        write_certificate(layout)
    write_generated_file(settings, running)
    return running


def _wait_until_ready(part: Part, supervisor: Supervisor, on_progress: Progress) -> None:
    began = time.monotonic()
    while True:
        now = supervisor.processes().get(part.name, STOPPED)
        if now.is_up and part.is_ready(now.started):
            break
        waited_seconds = time.monotonic() - began
        if now.has_failed or waited_seconds > LIMIT_SECONDS:
            raise StackError(_failure(part, waited_seconds, supervisor.layout.log_file(part.name)))
        time.sleep(0.1)
    on_progress(f"{part.name}: ready at {part.address} ({time.monotonic() - began:.1f} s) {part.note}".rstrip())


def _failure(part: Part, waited_seconds: float, log: Path) -> str:
    output = log.read_text(errors="replace") if log.exists() else ""
    return f"{part.name} did not start within {waited_seconds:.0f} s. The last line of {log}: {last_line(output)}"


def _status_of(part: Part, now: Supervised, layout: Layout) -> PartStatus:
    if now.is_up:
        is_ready = part.is_ready(now.started)
        return PartStatus(part.name, "running" if is_ready else "starting", part.address, _usage(now.pid))
    state: Literal["failed", "stopped"] = "failed" if now.has_failed else "stopped"
    log = layout.log_file(part.name)
    return PartStatus(part.name, state, part.address, f"log: {log}" if log.exists() else "")


def _usage(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        return f"pid {pid}, {process.memory_info().rss / 2**20:.0f} MiB"
    except psutil.Error:  # between two starts
        return ""


def _external(settings: Settings) -> list[PartStatus]:
    parts = {
        (OBJECT_STORE, "LIFTLOOP_S3_ENDPOINT_URL"): settings.s3_endpoint_url,
        (PREFECT_SERVER, "LIFTLOOP_PREFECT_API_URL"): settings.prefect_api_url,
    }
    return [
        PartStatus(name, "external", address, f"set by {variable}")
        for (name, variable), address in parts.items()
        if address is not None
    ]
