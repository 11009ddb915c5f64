"""Where work runs: in Dask workers, or in this process alone. Both classes have the same methods."""

# mypy: allow-untyped-calls

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from distributed import Client, KilledWorker, as_completed
from distributed.system import MEMORY_LIMIT

from liftloop.compute.cluster import WorkersLostError, open_client, worker_addresses
from liftloop.settings import ONE_PROCESS, Settings

TIME_LIMIT_SECONDS = 3600.0  # for one whole `run`


@dataclass(frozen=True)
class OneProcess:
    """One task after another in this process: the reference for the workers, with identical bytes every time."""

    threads: int = os.cpu_count() or 1
    memory_bytes: float = MEMORY_LIMIT

    def threads_for(self, tasks: int) -> int:  # noqa: ARG002 tasks run one at a time, with all threads
        """The number of threads that each of `tasks` tasks may use."""
        return self.threads

    def load(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """The function's result for each item, spread evenly over the workers; pass it on to `run`."""
        return [function(item) for item in items]

    def run(self, function: Callable[..., Any], items: Iterable[Any], **shared: Any) -> Iterator[Any]:
        """The function's results, each as soon as it is available."""
        return (function(item, **shared) for item in items)


@dataclass(frozen=True)
class Workers:
    """The workers of a Dask cluster. `count`: their number at the start, and again after a lost one is replaced."""

    client: Client
    count: int
    time_limit_seconds: float = TIME_LIMIT_SECONDS

    def threads_for(self, tasks: int) -> int:
        threads: int = sum(self.client.nthreads().values())
        return max(1, threads // tasks)

    def load(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        workers = worker_addresses(self.client)  # on its own, Dask may put all items on one worker
        # A single worker is not named: if it is lost, Dask would wait for exactly that one.
        wanted = [{"workers": [name], "allow_other_workers": True} for name in workers] if len(workers) > 1 else [{}]
        return [
            self.client.submit(function, item, pure=False, **wanted[number % len(wanted)])
            for number, item in enumerate(items)
        ]

    def run(self, function: Callable[..., Any], items: Iterable[Any], **shared: Any) -> Iterator[Any]:
        futures = self.client.map(function, list(items), pure=False, **shared)
        try:
            for future in as_completed(futures, timeout=self.time_limit_seconds):
                yield future.result()
        except TimeoutError:
            raise WorkersLostError.because("no answer within the time limit") from None
        except KilledWorker as error:
            raise WorkersLostError.because(error) from error


Compute = OneProcess | Workers


@contextmanager
def open_compute(settings: Settings) -> Iterator[Compute]:
    """The compute that `LIFTLOOP_DASK_SCHEDULER` names. A local cluster ends with the block, whatever ends the block.

    Raises:
        ClusterError: no scheduler answers at that address, or its workers run other code.
    """
    if settings.dask_scheduler == ONE_PROCESS:
        yield OneProcess()
    else:
        with open_client(settings) as client:
            yield Workers(client, len(worker_addresses(client)))
