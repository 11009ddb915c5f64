"""Where a training computes: in Dask workers, or in this process alone. Both offer the same methods."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Protocol

import dask.dataframe as dd
import xgboost
from distributed import Client, LocalCluster, as_completed
from xgboost.dask import DaskQuantileDMatrix
from xgboost.dask import train as train_on_workers

from liftloop.fitting import Parameters, Recipe, Rows, fit
from liftloop.settings import ONE_PROCESS, Settings

TIME_LIMIT_SECONDS = 3600  # xgboost.dask may wait for ever for a worker that left (dmlc/xgboost #9419)


class TrainingError(RuntimeError):
    """The workers did not finish; the message says what to do."""


class Compute(Protocol):
    """A way to get work done. What `map` returns may lie in other processes: hand it on to the other methods."""

    def threads_for(self, tasks: int) -> int:
        """The threads that each of so many tasks may use."""

    def map(self, function: Callable[..., Any], items: Iterable[Any]) -> Sequence[Any]:
        """The function's results, which stay where they were computed."""

    def run(self, function: Callable[..., Any], items: Iterable[Any], **shared: Any) -> Iterator[Any]:
        """The function's results, each as soon as it is there."""

    def fit(
        self, recipe: Recipe, parameters: Parameters, training: Sequence[Any], validation: Sequence[Any]
    ) -> xgboost.Booster:
        """One fit on all rows that `map` made."""


@contextmanager
def open_compute(settings: Settings) -> Iterator[Compute]:
    """What `LIFTLOOP_DASK_SCHEDULER` names. A local cluster ends with the block, whatever ends it."""
    if settings.dask_scheduler == ONE_PROCESS:
        yield OneProcess()
    elif settings.dask_scheduler:
        with Client(settings.dask_scheduler) as client:
            yield Workers(client)
    else:
        with _local_cluster(settings.dask_workers) as cluster, Client(cluster) as client:
            yield Workers(client)


def _local_cluster(workers: int) -> LocalCluster:
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=max(1, (os.cpu_count() or 1) // workers),
        host="127.0.0.1",
        dashboard_address=None,
        memory_limit=0,  # rows in XGBoost's hands cannot be spilled; a limit would only pause or kill the worker
    )


@dataclass(frozen=True)
class OneProcess:
    """One thing after another, right here: the reference for the workers, and the way to identical bytes."""

    threads: int = os.cpu_count() or 1

    def threads_for(self, tasks: int) -> int:  # noqa: ARG002 one task runs at a time
        return self.threads

    def map(self, function: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        return [function(item) for item in items]

    def run(self, function: Callable[..., Any], items: Iterable[Any], **shared: Any) -> Iterator[Any]:
        return (function(item, **shared) for item in items)

    def fit(
        self, recipe: Recipe, parameters: Parameters, training: Sequence[Rows], validation: Sequence[Rows]
    ) -> xgboost.Booster:
        return fit(recipe, parameters, training, validation, self.threads)


@dataclass(frozen=True)
class Workers:
    """The workers of a Dask cluster."""

    client: Client
    time_limit_seconds: float = TIME_LIMIT_SECONDS

    def threads_for(self, tasks: int) -> int:
        return max(1, sum(self.client.nthreads().values()) // tasks)

    def map(self, function: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        futures: list[Any] = self.client.map(function, list(items), pure=False)
        return futures

    def run(self, function: Callable[..., Any], items: Iterable[Any], **shared: Any) -> Iterator[Any]:
        futures = self.client.map(function, list(items), pure=False, **shared)
        with self._time_limit():
            for future in as_completed(futures, timeout=self.time_limit_seconds):
                yield future.result()

    def fit(
        self, recipe: Recipe, parameters: Parameters, training: Sequence[Any], validation: Sequence[Any]
    ) -> xgboost.Booster:
        """By `xgboost.dask`, on the rows where they lie."""
        work = (recipe, parameters, training, validation)
        with self._time_limit():
            return self.client.sync(self._fit, *work, callback_timeout=self.time_limit_seconds)

    async def _fit(
        self, recipe: Recipe, parameters: Parameters, training: Sequence[Any], validation: Sequence[Any]
    ) -> xgboost.Booster:
        options = recipe.matrix_options()
        learned = await DaskQuantileDMatrix(self.client, **self._joined(recipe, training), **options)
        judged = await DaskQuantileDMatrix(self.client, **self._joined(recipe, validation), ref=learned, **options)
        evals = [(judged, "validation")]
        answer = await train_on_workers(
            self.client, dtrain=learned, evals=evals, **recipe.train_options(parameters)
        )
        return answer["booster"]

    def _joined(self, recipe: Recipe, rows: Sequence[Any]) -> dict[str, dd.DataFrame]:
        """Columns of one frame, made of what lies on the workers already: nothing is read twice or torn apart."""
        empty = recipe.no_rows()
        return {
            argument: dd.from_delayed(self.map(attrgetter(name), rows), meta=getattr(empty, name), verify_meta=False)
            for argument, name in [("data", "features"), ("label", "reward"), ("weight", "weight")]
        }

    @contextmanager
    def _time_limit(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise TrainingError(
                f"Dask workers did not finish within {self.time_limit_seconds:g} s; one may have been lost."
                " Run the training again; LIFTLOOP_DASK_SCHEDULER=one-process trains without workers."
            ) from None
