"""Where work is done: in Dask workers, or in this process alone. Both offer the same methods."""

# mypy: allow-untyped-calls

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import xgboost
from distributed import Client, KilledWorker, as_completed
from distributed.system import MEMORY_LIMIT

from liftloop.settings import ONE_PROCESS, Settings
from liftloop.training.checkpoints import SECONDS_BETWEEN, Checkpoints
from liftloop.training.cluster import WorkersLostError, check_device_here, open_client, worker_addresses
from liftloop.training.distributed_fit import LOST, fit_on_workers
from liftloop.training.fitting import Parameters, Recipe
from liftloop.training.frame import FramePart
from liftloop.training.shares import Fit, deal, fit_share, is_in_memory

TIME_LIMIT_SECONDS = 3600.0  # for all of `run`
STUCK_AFTER_SECONDS = 900.0  # of a fit, without a checkpoint or with a worker that does not answer the others


class Compute(Protocol):
    """A way to get work done. What `load` returns may lie in other processes: hand it on to the methods."""

    def threads_for(self, tasks: int) -> int:
        """The threads that each of so many tasks may use."""

    def load(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Sequence[Any]:
        """The function's result for each item, spread evenly over the workers."""

    def run(self, function: Callable[..., Any], items: Iterable[Any], **shared: Any) -> Iterator[Any]:
        """The function's results themselves, each as soon as it is there."""

    def fit(
        self, recipe: Recipe, parameters: Parameters, training: FramePart, validation: FramePart
    ) -> xgboost.Booster:
        """One fit on all rows, which are read where they are needed and may be more than memory holds."""


@contextmanager
def open_compute(settings: Settings) -> Iterator[Compute]:
    """What `LIFTLOOP_DASK_SCHEDULER` names. A local cluster ends with the block, whatever ends that.

    Raises:
        TrainingError: nothing answers at that address, or workers without this code.
    """
    if settings.dask_scheduler == ONE_PROCESS:
        check_device_here(settings.device)
        yield OneProcess()
    else:
        with open_client(settings) as client:
            yield Workers(client, len(worker_addresses(client)))


@dataclass(frozen=True)
class OneProcess:
    """One thing after another, right here: the reference for the workers, and the way to identical bytes."""

    threads: int = os.cpu_count() or 1
    memory_bytes: float = MEMORY_LIMIT

    def threads_for(self, tasks: int) -> int:  # noqa: ARG002 one task at a time has them all
        return self.threads

    def load(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return [function(item) for item in items]

    def run(self, function: Callable[..., Any], items: Iterable[Any], **shared: Any) -> Iterator[Any]:
        return (function(item, **shared) for item in items)

    def fit(
        self, recipe: Recipe, parameters: Parameters, training: FramePart, validation: FramePart
    ) -> xgboost.Booster:
        (share,) = deal(training.partitions, validation.partitions, 1)
        checkpoints = Checkpoints.of(recipe, parameters, [share])
        in_memory = is_in_memory(recipe, training.rows + validation.rows, self.memory_bytes)
        fit = Fit(recipe, parameters, checkpoints, checkpoints.newest(), in_memory)
        booster = fit_share(fit, share, self.threads)
        checkpoints.clear()
        return booster


@dataclass(frozen=True)
class Workers:
    """The workers of a Dask cluster. `count`: how many there were at first, and should be again if one is lost."""

    client: Client
    count: int
    time_limit_seconds: float = TIME_LIMIT_SECONDS
    stuck_after_seconds: float = STUCK_AFTER_SECONDS
    checkpoint_seconds: float = SECONDS_BETWEEN

    def threads_for(self, tasks: int) -> int:
        threads: int = sum(self.client.nthreads().values())
        return max(1, threads // tasks)

    def load(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        workers = worker_addresses(self.client)  # left to itself Dask may put all on one of them
        # The only one is not named: should it be lost, Dask would wait for just that one to come back.
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
            raise WorkersLostError(LOST.format("no answer within the time limit")) from None
        except KilledWorker as error:
            raise WorkersLostError(LOST.format(error)) from error

    def fit(
        self, recipe: Recipe, parameters: Parameters, training: FramePart, validation: FramePart
    ) -> xgboost.Booster:
        return fit_on_workers(
            self.client,
            self.count,
            recipe,
            parameters,
            training,
            validation,
            stuck_after_seconds=self.stuck_after_seconds,
            checkpoint_seconds=self.checkpoint_seconds,
        )
