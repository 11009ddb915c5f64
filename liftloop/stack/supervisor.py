"""Supervisor: its configuration, its control, and the cleanup after it was killed."""

import configparser
import contextlib
import io
import os
import shlex
import subprocess
import time
import xmlrpc.client
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport  # type: ignore[import-untyped]

from liftloop.stack.layout import Layout, StackError, write_private
from liftloop.stack.parts import SCRIPTS, Part

_SHUTDOWN_LIMIT_SECONDS = 60  # longer than the parts' own limits together
_END_LIMIT_SECONDS = 20
_UNSUPPORTED = frozenset("%;#\"'\n")  # in the format of its configuration
# Feast sets these on import, to a folder that is removed when the process ends; the daemon lives longer.
_OF_THIS_PROCESS = {"PROMETHEUS_MULTIPROCESS_DIR", "PROMETHEUS_MULTIPROC_DIR"}


@dataclass(frozen=True)
class Supervised:
    """The state of one process according to supervisor."""

    state: str  # STARTING, RUNNING, BACKOFF, STOPPING, STOPPED, EXITED, FATAL, UNKNOWN
    pid: int  # 0: none
    started: int  # epoch seconds

    @property
    def is_up(self) -> bool:
        return self.state in ("STARTING", "RUNNING", "BACKOFF")

    @property
    def has_failed(self) -> bool:
        """Whether supervisor gave up restarting it."""
        return self.state == "FATAL"


STOPPED = Supervised("STOPPED", 0, 0)


def config_text(parts: Sequence[Part], layout: Layout) -> str:
    """Supervisor's configuration for these parts.

    Raises:
        StackError: a path or value contains a character that the format does not support.
    """
    socket = str(layout.socket)
    sections: dict[str, dict[str, str]] = {
        "supervisord": {
            "logfile": str(layout.log_file("supervisord")),
            "logfile_backups": "1",
            "pidfile": str(layout.supervisor_folder / "supervisord.pid"),
        },
        "unix_http_server": {"file": socket, "chmod": "0700"},
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        },
        "supervisorctl": {"serverurl": f"unix://{socket}"},
    }
    config = configparser.RawConfigParser()
    config.read_dict(sections | {f"program:{part.name}": _program(part, layout) for part in parts})
    text = io.StringIO()
    config.write(text)
    return text.getvalue()


def _program(part: Part, layout: Layout) -> dict[str, str]:
    _require_plain_values(part, layout)
    return {
        "command": shlex.join(part.command),
        "directory": str(layout.project),
        "environment": ",".join(f'{name}="{value}"' for name, value in sorted(part.environment.items())),
        "priority": str(part.priority),
        "autorestart": "true",
        "stopwaitsecs": str(part.stop_limit_seconds),
        "stopasgroup": "true",
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": str(layout.log_file(part.name)),
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": "1",
    }


def _require_plain_values(part: Part, layout: Layout) -> None:
    paths = f"{layout.home}{layout.project}{SCRIPTS}"
    if bad := set(paths) & _UNSUPPORTED:
        raise StackError(f"supervisor cannot run in a path with {min(bad)!r} in it: move to a plainer path")
    for name, value in part.environment.items():
        if bad := set(value) & _UNSUPPORTED:
            raise StackError(f"{name} of the {part.name} has {min(bad)!r} in it: choose plainer LIFTLOOP_* settings")


@dataclass(frozen=True)
class Supervisor:
    """The supervisor daemon of one stack, running or not."""

    layout: Layout

    def start(self, config: str) -> None:
        """Write the configuration and start the daemon in a new session.

        Raises:
            StackError: it does not start.
        """
        write_private(self.layout.config_file, config)
        self.layout.socket.unlink(missing_ok=True)  # left over from a killed supervisor
        done = subprocess.run(
            [SCRIPTS / "supervisord", "-c", self.layout.config_file],
            env={name: value for name, value in os.environ.items() if name not in _OF_THIS_PROCESS} | self._mark,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            reason = (done.stdout + done.stderr).strip().splitlines()[-1:]
            raise StackError(f"supervisord does not start: {' '.join(reason)} ({self.layout.config_file})")

    @property
    def _mark(self) -> dict[str, str]:
        """Supervisor sets this variable in all it starts; the daemon itself gets it too, so that we can find it."""
        return {"SUPERVISOR_SERVER_URL": f"unix://{self.layout.socket}"}

    def is_configured(self, config: str) -> bool:
        """Whether the daemon runs with this configuration."""
        file = self.layout.config_file
        return bool(self.processes()) and file.exists() and file.read_text() == config

    def processes(self) -> dict[str, Supervised]:
        """The supervised processes by name; empty if the daemon does not answer."""
        try:
            answers = self._call("getAllProcessInfo")
        except (OSError, xmlrpc.client.Error):
            return {}
        return {each["name"]: Supervised(each["statename"], each["pid"], each["start"]) for each in answers}

    def start_part(self, name: str) -> None:
        """Start one supervised process that is not running, without waiting for it."""
        self._call("startProcess", name, False)

    def _call(self, method: str, *arguments: Any) -> Any:
        transport = SupervisorTransport(serverurl=f"unix://{self.layout.socket}")
        with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as server:
            return getattr(server.supervisor, method)(*arguments)

    def stop(self) -> None:
        """Stop the daemon and everything it started, including orphans of a killed one; return when all have ended.

        Raises:
            StackError: a process does not end.
        """
        try:
            daemon = psutil.Process(self._call("getPID"))
            self._call("shutdown")
        except (OSError, xmlrpc.client.Error, psutil.Error):
            pass  # it does not run, or does not answer and is ended below
        else:
            _living_after([daemon], _SHUTDOWN_LIMIT_SECONDS)
        self._end_members()

    def _end_members(self) -> None:
        living = self.members()
        for end in (psutil.Process.terminate, psutil.Process.kill):
            for process in living:
                with contextlib.suppress(psutil.NoSuchProcess):
                    end(process)
            living = _living_after(living, _END_LIMIT_SECONDS)
        if living:
            raise StackError(f"process {living[0].pid} cannot be ended: end it by hand, then try again")

    def members(self) -> list[psutil.Process]:
        """Every living process that this stack's supervisor started, directly or not, and the supervisor itself."""
        return [process for process in psutil.process_iter() if self._mark.items() <= _environment_of(process).items()]


def _environment_of(process: psutil.Process) -> dict[str, str]:
    try:
        return dict(process.environ())
    except (psutil.Error, OSError):  # another user's, or just gone
        return {}


def _living_after(processes: Sequence[psutil.Process], limit_seconds: float) -> list[psutil.Process]:
    """The processes that still run after the time limit; returns at once when none does."""
    deadline = time.monotonic() + limit_seconds
    while living := [process for process in processes if _is_alive(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return living


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
