"""Where work is done: in Dask workers, or in this process alone. Both offer the same methods."""

# mypy: allow-untyped-calls

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from operator import attrgetter
from types import ModuleType
from typing import Any, Protocol

import dask
import dask.dataframe as dd
import xgboost
from distributed import Client, KilledWorker, LocalCluster, as_completed
from xgboost.collective import Config
from xgboost.dask import DaskQuantileDMatrix
from xgboost.dask import train as train_on_workers

from liftloop.errors import UserError
from liftloop.settings import ONE_PROCESS, Settings
from liftloop.training.fitting import Parameters, Recipe, Rows, fit

LOOPBACK = "127.0.0.1"
CONNECT_SECONDS = 10.0
TIME_LIMIT_SECONDS = 3600.0  # xgboost.dask may wait for ever for a worker that left (dmlc/xgboost #9419)

_LOST = (
    "The Dask workers did not finish; one may have been lost. Start the run again, or without workers by"
    " LIFTLOOP_DASK_SCHEDULER=one-process. Cause: {}"
)
_UNUSABLE = "LIFTLOOP_DASK_SCHEDULER={!r}: {}. Mend that, or take the setting away for a local cluster."
_LONGEST_CAUSE_CHARACTERS = 500


class TrainingError(UserError):
    """There are no workers, or not the right ones; the message says what to do."""


class WorkersLostError(TrainingError):
    """The workers did not finish."""

    may_pass = True


class Compute(Protocol):
    """A way to get work done. What `load` and `map` return may lie in other processes: hand it on to the methods."""

    def threads_for(self, tasks: int) -> int:
        """The threads that each of so many tasks may use."""

    def load(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Sequence[Any]:
        """The function's result for each item, spread evenly over the workers."""

    def map(self, function: Callable[[Any], Any], results: Sequence[Any]) -> Sequence[Any]:
        """The function's result for each result, where that lies."""

    def run(self, function: Callable[..., Any], items: Iterable[Any], **shared: Any) -> Iterator[Any]:
        """The function's results themselves, each as soon as it is there."""

    def fit(
        self, recipe: Recipe, parameters: Parameters, training: Sequence[Any], validation: Sequence[Any]
    ) -> xgboost.Booster:
        """One fit on all rows that were loaded."""


@contextmanager
def open_compute(settings: Settings) -> Iterator[Compute]:
    """What `LIFTLOOP_DASK_SCHEDULER` names. A local cluster ends with the block, whatever ends that.

    Raises:
        TrainingError: nothing answers at that address, or workers without this code.
    """
    if settings.dask_scheduler == ONE_PROCESS:
        yield OneProcess()
    elif settings.dask_scheduler:
        with _connected(settings.dask_scheduler) as client:
            yield Workers(client)
    else:
        with _local_cluster(settings.dask_workers) as cluster, Client(cluster) as client:
            yield Workers(client, tracker_host=LOOPBACK)


@dataclass(frozen=True)
class OneProcess:
    """One thing after another, right here: the reference for the workers, and the way to identical bytes."""

    threads: int = os.cpu_count() or 1

    def threads_for(self, tasks: int) -> int:  # noqa: ARG002 one task at a time has them all
        return self.threads

    def load(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return [function(item) for item in items]

    map = load

    def run(self, function: Callable[..., Any], items: Iterable[Any], **shared: Any) -> Iterator[Any]:
        return (function(item, **shared) for item in items)

    def fit(
        self, recipe: Recipe, parameters: Parameters, training: Sequence[Rows], validation: Sequence[Rows]
    ) -> xgboost.Booster:
        return fit(recipe, parameters, training, validation, self.threads)


@dataclass(frozen=True)
class Workers:
    """The workers of a Dask cluster. Their part of a fit finds each other at `tracker_host`, None: as Dask does."""

    client: Client
    tracker_host: str | None = None
    time_limit_seconds: float = TIME_LIMIT_SECONDS

    def threads_for(self, tasks: int) -> int:
        threads: int = sum(self.client.nthreads().values())
        return max(1, threads // tasks)

    def load(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        # Left to itself Dask may put a whole part on one worker, and XGBoost on the others waits without rows.
        known = self.client.scheduler_info(n_workers=-1)["workers"]
        workers = sorted(known, key=lambda address: str(known[address]["name"]))  # XGBoost ranks them so, too
        # The only one is not named: should it be lost, Dask would wait for just that one to come back.
        wanted = [{"workers": [name], "allow_other_workers": True} for name in workers] if len(workers) > 1 else [{}]
        return [
            self.client.submit(function, item, pure=False, **wanted[number % len(wanted)])
            for number, item in enumerate(items)
        ]

    def map(self, function: Callable[[Any], Any], results: Sequence[Any]) -> list[Any]:
        futures: list[Any] = self.client.map(function, results, pure=False)
        return futures

    def run(self, function: Callable[..., Any], items: Iterable[Any], **shared: Any) -> Iterator[Any]:
        futures = self.client.map(function, list(items), pure=False, **shared)
        with _losses_explained(KilledWorker):
            for future in as_completed(futures, timeout=self.time_limit_seconds):
                yield future.result()

    def fit(
        self, recipe: Recipe, parameters: Parameters, training: Sequence[Any], validation: Sequence[Any]
    ) -> xgboost.Booster:
        """By `xgboost.dask`, on the rows where they lie."""
        work = (recipe, parameters, training, validation)
        with _losses_explained(ValueError):  # all that XGBoost says of a lost worker; the rows were read before
            booster: xgboost.Booster = self.client.sync(self._fit, *work, callback_timeout=self.time_limit_seconds)
        return booster

    async def _fit(
        self, recipe: Recipe, parameters: Parameters, training: Sequence[Any], validation: Sequence[Any]
    ) -> xgboost.Booster:
        options = recipe.matrix_options()
        learned = await DaskQuantileDMatrix(self.client, **self._joined(recipe, training), **options)
        judged = await DaskQuantileDMatrix(self.client, **self._joined(recipe, validation), ref=learned, **options)
        answer = await train_on_workers(
            self.client,
            dtrain=learned,
            evals=[(judged, "validation")],
            coll_cfg=Config(tracker_host_ip=self.tracker_host),
            **recipe.train_options(parameters),
        )
        booster: xgboost.Booster = answer["booster"]
        return booster

    def _joined(self, recipe: Recipe, rows: Sequence[Any]) -> dict[str, dd.DataFrame]:
        """Columns of one frame, made of what lies on the workers already: nothing is read twice or torn apart."""
        empty = recipe.no_rows()
        return {
            argument: dd.from_delayed(self.map(attrgetter(name), rows), meta=getattr(empty, name), verify_meta=False)
            for argument, name in [("data", "features"), ("label", "reward"), ("weight", "weight")]
        }


def _connected(address: str) -> Client:
    """A client of a scheduler whose workers run this code; others would wait with us for ever."""
    try:
        client = Client(address, timeout=CONNECT_SECONDS)
    except OSError:
        raise TrainingError(_UNUSABLE.format(address, "no Dask scheduler answers there")) from None
    ours, theirs = version("liftloop"), client.run(version, "liftloop", on_error="return")
    if not theirs or any(found != ours for found in theirs.values()):
        client.close()
        raise TrainingError(_UNUSABLE.format(address, f"its workers must have liftloop {ours}, they have {theirs}"))
    return client


def _local_cluster(workers: int) -> LocalCluster:
    logging.getLogger("distributed").setLevel(logging.WARNING)  # else every connection gets a line
    # A worker that has nothing to do would take rows from another, and the trees depend on who holds which.
    with _no_main_module(), dask.config.set({"distributed.scheduler.work-stealing": False}):
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=max(1, (os.cpu_count() or 1) // workers),
            host=LOOPBACK,
            dashboard_address=None,
            scheduler_kwargs={"dashboard": False, "dashboard_address": f"{LOOPBACK}:0"},  # else port 8787 is claimed
            memory_limit=0,  # rows in XGBoost's hands cannot be spilled; a limit would only pause or kill the worker
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


@contextmanager
def _losses_explained(sign: type[Exception]) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise WorkersLostError(_LOST.format("no answer within the time limit")) from None
    except sign as error:
        raise WorkersLostError(_LOST.format(str(error)[:_LONGEST_CAUSE_CHARACTERS])) from error
