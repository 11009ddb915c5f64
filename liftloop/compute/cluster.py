"""The Dask cluster that the settings name: our own, for as long as it is needed, or another's."""

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

_UNUSABLE = "LIFTLOOP_DASK_SCHEDULER={!r}: {}. Mend that, or take the setting away for a local cluster."
_LOST = (
    "The Dask workers did not finish; one may have been lost. Start the run again, or without workers by"
    " LIFTLOOP_DASK_SCHEDULER=one-process. Cause: {}"
)
LONGEST_CAUSE_CHARACTERS = 500
# XGBoost's rows cannot be spilled to disk, and a worker that paused would keep all others waiting.
_WORKER_CONFIG = {
    # A worker that has nothing to do would take rows from another, and the trials would find them elsewhere.
    "distributed.scheduler.work-stealing": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.profile.enabled": False,  # it looks at every thread a hundred times a second
    "distributed.nanny.pre-spawn-environ.OMP_NUM_THREADS": None,  # Dask would set 1, here as well as in the workers
}


class ClusterError(UserError):
    """There are no workers, or not the right ones; the message says what to do."""


class WorkersLostError(ClusterError):
    """The workers did not finish; started again, they may."""

    is_retryable = True

    @classmethod
    def because(cls, cause: object) -> "WorkersLostError":
        """The error in the user's words, with the beginning of its cause."""
        return cls(_LOST.format(str(cause)[:LONGEST_CAUSE_CHARACTERS]))


def known_workers(client: Client) -> dict[str, dict[str, Any]]:
    """What the scheduler knows of each worker, by address."""
    # Not by `client.scheduler_info`: a background task may have put an answer without workers in its place.
    assert client.scheduler is not None  # it is connected
    workers: dict[str, dict[str, Any]] = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
    return workers


def worker_addresses(client: Client) -> list[str]:
    """The workers there are, always in the same order."""
    known = known_workers(client)
    return sorted(known, key=lambda address: str(known[address]["name"]))


def ask_worker(client: Client, address: str, function: Callable[..., T], *arguments: Any) -> T | None:
    """What a function returns in a worker, whatever else that does; None: it is gone or does not answer."""
    run = partial(client._run, function, *arguments, workers=[address], on_error="ignore")  # `run` has no time limit
    try:
        answers: dict[str, T] = client.sync(run, callback_timeout=ANSWER_SECONDS)
    except (TimeoutError, OSError, ValueError):
        return None
    return answers.get(address)


@contextmanager
def open_client(settings: Settings) -> Iterator[Client]:
    """A client of the cluster. A local one ends with the block, whatever ends that.

    Raises:
        ClusterError: nothing answers at that address, or workers without this code.
    """
    if settings.dask_scheduler:
        with _connected(settings.dask_scheduler) as client:
            yield client
    else:
        with _local_cluster(settings) as cluster, Client(cluster) as client:
            yield client


def _connected(address: str) -> Client:
    """A client of a scheduler whose workers run this code; others would wait with us for ever."""
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
    logging.getLogger("distributed").setLevel(logging.WARNING)  # else every connection gets a line
    workers = 1 if settings.device == "cuda" else settings.dask_workers  # of one fit, no two may share a GPU
    with _no_main_module(), dask.config.set(_WORKER_CONFIG):
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=max(1, (os.cpu_count() or 1) // workers),
            host=LOOPBACK,
            dashboard_address=None,
            scheduler_kwargs={"dashboard": False, "dashboard_address": f"{LOOPBACK}:0"},  # else port 8787 is claimed
            memory_limit=settings.dask_worker_memory_bytes or "auto",  # beyond it a worker is ended
            config=_WORKER_CONFIG,  # for those that take a lost one's place, too
        )


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Started processes import their parent's main module; ours load Feast and Prefect, seconds of work for nothing."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
