"""A Redis of its own for a benchmark, on a free port of the loopback interface; what it holds is thrown away."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as NotUp

_LIMIT_SECONDS = 30


@contextmanager
def redis_server(folder: Path) -> Iterator[int | None]:
    """Its port; none where `redis-server` is not installed."""
    binary = shutil.which("redis-server")
    if binary is None:
        yield None
        return
    port = _free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield port
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _LIMIT_SECONDS
    while time.monotonic() < deadline:
        with suppress(NotUp), Redis(port=port) as client:
            client.ping()
            return
        time.sleep(0.05)
    raise TimeoutError(f"Redis did not come up on port {port} within {_LIMIT_SECONDS} s")
