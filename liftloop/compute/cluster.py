"""The Dask cluster in the settings: a temporary local one, or an external one."""

# mypy: allow-untyped-calls

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from types import ModuleType
from typing import Any, TypeVar

import dask
from distributed import Client, LocalCluster

from liftloop.errors import UserError
from liftloop.settings import Settings

T = TypeVar("T")

LOOPBACK = "127.0.0.1"
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 5.0

_UNUSABLE = "LIFTLOOP_DASK_SCHEDULER={!r}: {}. Fix that, or remove the setting for a local cluster."
_LOST = (
    "The Dask workers did not finish; one may have been lost. Start the run again, or run without workers:"
    " LIFTLOOP_DASK_SCHEDULER=one-process. Cause: {}"
)
LONGEST_CAUSE_CHARACTERS = 500
# XGBoost's rows cannot be spilled to disk, and a paused worker would make all others wait.
_WORKER_CONFIG = {
    # An idle worker would steal rows from another, and the trials would find them elsewhere.
    "distributed.scheduler.work-stealing": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.profile.enabled": False,  # it samples every thread a hundred times a second
    "distributed.nanny.pre-spawn-environ.OMP_NUM_THREADS": None,  # Dask would set 1, here and in the workers
}


class ClusterError(UserError):
    """There are no usable workers; the message says what to do."""


class WorkersLostError(ClusterError):
    """The workers did not finish; a retry can succeed."""

    is_retryable = True

    @classmethod
    def because(cls, cause: object) -> "WorkersLostError":
        """The error for the user, with the start of its cause."""
        return cls(_LOST.format(str(cause)[:LONGEST_CAUSE_CHARACTERS]))


def known_workers(client: Client) -> dict[str, dict[str, Any]]:
    """The scheduler's information about each worker, by address."""
    # Not `client.scheduler_info`: a background task may have replaced it by an answer without workers.
    assert client.scheduler is not None  # it is connected
    workers: dict[str, dict[str, Any]] = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
    return workers


def worker_addresses(client: Client) -> list[str]:
    """The addresses of the workers, in a stable order."""
    known = known_workers(client)
    return sorted(known, key=lambda address: str(known[address]["name"]))


def ask_worker(client: Client, address: str, function: Callable[..., T], *arguments: Any) -> T | None:
    """The result of a function in a worker, even a busy one; None if the worker is gone or does not answer."""
    run = partial(client._run, function, *arguments, workers=[address], on_error="ignore")  # `run` has no time limit
    try:
        answers: dict[str, T] = client.sync(run, callback_timeout=ANSWER_SECONDS)
    except (TimeoutError, OSError, ValueError):
        return None
    return answers.get(address)


@contextmanager
def open_client(settings: Settings) -> Iterator[Client]:
    """A client of the cluster. A local cluster ends with the block, whatever ends the block.

    Raises:
        ClusterError: no scheduler answers at that address, or its workers run other code.
    """
    if settings.dask_scheduler:
        with _connected(settings.dask_scheduler) as client:
            yield client
    else:
        with _local_cluster(settings) as cluster, Client(cluster) as client:
            yield client


def _connected(address: str) -> Client:
    """A client of a scheduler whose workers run this code; with other code a fit would hang."""
    try:
        client = Client(address, timeout=CONNECT_SECONDS)
    except OSError:
        raise ClusterError(_UNUSABLE.format(address, "no Dask scheduler answers there")) from None
    ours, theirs = version("liftloop"), client.run(version, "liftloop", on_error="return")
    if not theirs or any(found != ours for found in theirs.values()):
        client.close()
        raise ClusterError(_UNUSABLE.format(address, f"its workers must have liftloop {ours}, they have {theirs}"))
    return client


def _local_cluster(settings: Settings) -> LocalCluster:
    logging.getLogger("distributed").setLevel(logging.WARNING)  # otherwise it logs every connection
    workers = 1 if settings.device == "cuda" else settings.dask_workers  # two workers of one fit cannot share a GPU
    with _no_main_module(), dask.config.set(_WORKER_CONFIG):
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=max(1, (os.cpu_count() or 1) // workers),
            host=LOOPBACK,
            dashboard_address=None,
            scheduler_kwargs={"dashboard": False, "dashboard_address": f"{LOOPBACK}:0"},  # otherwise it binds port 8787
            memory_limit=settings.dask_worker_memory_bytes or "auto",  # beyond it a worker is killed
            config=_WORKER_CONFIG,  # also for workers that replace lost ones
        )


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Spawned processes import their parent's main module; ours loads Feast and Prefect, which costs seconds."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
