"""Servers that a test starts and ends itself."""

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from lib.waits import until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def server(command: list[str], port: int, **options: object) -> Iterator[None]:
    """A server that runs for the length of a block and answers on its port."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)  # type: ignore[call-overload]
    try:
        until(lambda: process.poll() is not None or is_listening(port), what=f"an answer of {command[0]}")
        assert process.poll() is None, f"{command[0]} ended at once"
        yield
    finally:
        process.send_signal(signal.SIGINT)  # PostgreSQL would wait for its clients after a SIGTERM
        process.wait()
