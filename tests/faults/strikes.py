"""What can strike the loop. Each does it at once, from the proxy's thread, and says what it did."""

import signal
import threading
from collections.abc import Callable

import psutil

from faults.loop import Loop, kill

Strike = Callable[[Loop], str]

OUTAGE_SECONDS = 30
FULL_SECONDS = 20


def kill_flow(loop: Loop) -> str:
    return _kill(loop.flow_processes())


def kill_worker(loop: Loop) -> str:
    return _kill([loop.part("worker")])


def kill_worker_and_flow(loop: Loop) -> str:
    return _kill([loop.part("worker"), *loop.flow_processes()])


def kill_server(loop: Loop) -> str:
    return _kill([loop.part("prefect-server")])


def kill_store(loop: Loop) -> str:
    return _kill([loop.part("object-store")])


def kill_bridge(loop: Loop) -> str:
    return _kill([loop.part("bridge")])


def kill_dask_worker(loop: Loop) -> str:
    return _kill(loop.dask_workers()[:1])


def _kill(processes: list[psutil.Process]) -> str:
    assert processes, "there is nobody to kill"
    kill(*processes)
    return f"kill -9 {' '.join(str(process.pid) for process in processes)}"


def end_worker(loop: Loop) -> str:
    worker = loop.part("worker")
    worker.send_signal(signal.SIGTERM)
    return f"kill -TERM {worker.pid}"


def answer_500(loop: Loop) -> str:
    return _trouble(loop, 500)


def answer_503(loop: Loop) -> str:
    return _trouble(loop, 503)


def answer_late(loop: Loop) -> str:
    return _trouble(loop, None)


def _trouble(loop: Loop, status: int | None) -> str:
    loop.proxy.trouble(status, OUTAGE_SECONDS)
    return f"{status or 'no answer'} for {OUTAGE_SECONDS} s"


def fill_disk(loop: Loop) -> str:
    """Not a byte is left where the stack keeps its files; after a while somebody makes room."""
    filler = loop.layout.home / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(2**20))
        except OSError:
            pass
    threading.Timer(FULL_SECONDS, filler.unlink).start()
    return f"0 bytes free for {FULL_SECONDS} s"
