"""A sharded fit: each worker reads its own partitions, and XGBoost's collective builds one model from all shards.

Not by `xgboost.dask`, which loads all rows into the workers' memory before it starts, offers no hook for checkpoints,
and may wait forever for a worker that left or has no rows (dmlc/xgboost #9419, #7494).
"""

# mypy: allow-untyped-calls

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from heapq import heapify, heapreplace
from tempfile import TemporaryDirectory
from typing import Any

import xgboost
from distributed import get_worker
from distributed.comm.addressing import get_address_host
from xgboost.collective import CommunicatorContext
from xgboost.core import XGBoostError
from xgboost.tracker import RabitTracker

from liftloop.storage.store import ObjectRef
from liftloop.training.boosting import Parameters, Recipe, Rows, boost, quantile_matrix
from liftloop.training.checkpoints import SECONDS_BETWEEN, Checkpoints

BYTES_PER_VALUE = 12  # at most, while a matrix is built in memory: the rows, their bins, and the bins by column

_trackers: dict[str, RabitTracker] = {}  # of this process: the trackers of XGBoost's collective, by name of the fit
_running: set[str] = set()  # names of the fits that this process has a shard of


@dataclass(frozen=True)
class Shard:
    """The partitions that one worker reads; `number` counts from 0."""

    number: int
    training: tuple[ObjectRef, ...]
    validation: tuple[ObjectRef, ...]


@dataclass(frozen=True)
class Fit:
    """What all shards of a fit share, and the checkpoint to resume from. Small, because it is sent to every worker."""

    recipe: Recipe
    parameters: Parameters
    checkpoints: Checkpoints
    resume_from: ObjectRef | None
    is_in_memory: bool
    checkpoint_seconds: float = SECONDS_BETWEEN


def assign_partitions(training: Sequence[ObjectRef], validation: Sequence[ObjectRef], count: int) -> list[Shard]:
    """Shards of about equal bytes. The same partitions and count give the same shards."""
    assigned = zip(_assigned(training, count), _assigned(validation, count), strict=True)
    return [Shard(number, *partitions) for number, partitions in enumerate(assigned)]


def _assigned(refs: Sequence[ObjectRef], count: int) -> list[tuple[ObjectRef, ...]]:
    """The largest first, each to the shard with the fewest bytes: Graham 1969, "Bounds on Multiprocessing Timing
    Anomalies".
    """
    assigned: list[list[int]] = [[] for _ in range(count)]
    least = [(0, number) for number in range(count)]
    heapify(least)
    for place in sorted(range(len(refs)), key=lambda place: (-refs[place].size_bytes, place)):
        assigned_bytes, number = least[0]
        assigned[number].append(place)
        heapreplace(least, (assigned_bytes + refs[place].size_bytes, number))
    return [tuple(refs[place] for place in sorted(each)) for each in assigned]


def is_in_memory(recipe: Recipe, rows: int, memory_bytes: float) -> bool:
    """Whether this many rows fit into this much memory; otherwise their bins are kept in files."""
    return rows * len(recipe.encoder.columns) * BYTES_PER_VALUE <= memory_bytes


def fit_shard(
    fit: Fit,
    shard: Shard,
    threads: int,
    *,
    cache_folder: str | None = None,
    collective: AbstractContextManager[Any] = nullcontext(),  # noqa: B008 it has no state
) -> xgboost.Booster:
    """The booster of all shards of the `collective`, each fitted in its own process."""
    parts = {name: _Partitions(fit.recipe, getattr(shard, name)) for name in ("training", "validation")}
    rows: dict[str, Iterable[Rows]] = {name: list(each) if fit.is_in_memory else each for name, each in parts.items()}
    resume_from = fit.checkpoints.read(fit.resume_from) if fit.resume_from else None
    use_threads = xgboost.config_context(nthread=threads)  # overrides what Dask has set for OpenMP
    with collective, use_threads, TemporaryDirectory(prefix="liftloop-", dir=cache_folder) as folder:
        return _fit_rows(fit, rows, threads, None if fit.is_in_memory else folder, resume_from, shard.number == 0)


def _fit_rows(
    fit: Fit,
    rows: dict[str, Iterable[Rows]],
    threads: int,
    cache_folder: str | None,
    resume_from: bytes | None,
    writes_checkpoints: bool,
) -> xgboost.Booster:
    """Removes the rows from the dict, so that their memory is free once they are binned."""
    dtrain = quantile_matrix(fit.recipe, rows.pop("training"), threads, None, cache_folder)
    dvalid = quantile_matrix(fit.recipe, rows.pop("validation"), threads, dtrain, cache_folder)
    write = fit.checkpoints.writer(fit.checkpoint_seconds) if writes_checkpoints else None
    parameters = fit.parameters | {"nthread": threads}
    return boost(fit.recipe, parameters, dtrain, dvalid, resume_from=resume_from, after_round=write)


@dataclass(frozen=True)
class _Partitions:
    """Reads its partitions one by one, again on every iteration."""

    recipe: Recipe
    refs: tuple[ObjectRef, ...]

    def __iter__(self) -> Iterator[Rows]:
        return map(self.recipe.load, self.refs) if self.refs else iter([self.recipe.no_rows()])


def open_tracker(name: str, worker: str, shards: int, limit_seconds: int) -> dict[str, Any]:
    """Called in the worker at that address, which the others can reach; returns the arguments for joining it."""
    host = get_address_host(worker)
    tracker = _trackers[name] = RabitTracker(n_workers=shards, host_ip=host, sortby="task", timeout=limit_seconds)
    tracker.start()
    arguments: dict[str, Any] = tracker.worker_args()
    return arguments | {"dmlc_timeout": limit_seconds, "dmlc_retry": 1}  # a worker that leaves does not come back


def close_tracker(name: str) -> None:
    """Called in the process that opened it; workers that still wait for the others stop."""
    with suppress(XGBoostError):  # raised if not all workers joined
        _trackers.pop(name).free()


def is_running(name: str) -> bool:
    """Whether this process still runs, or waits in, the fit of that name."""
    return name in _running


def fit_on_worker(name: str, fit: Fit, shard: Shard, tracker_arguments: dict[str, Any]) -> bytes | None:
    """Called in a Dask worker: fits one shard; the first shard returns the booster (UBJSON)."""
    worker = get_worker()
    collective = CommunicatorContext(**tracker_arguments, dmlc_task_id=f"{shard.number:06}")
    _running.add(name)
    try:
        booster = fit_shard(
            fit, shard, worker.state.nthreads, cache_folder=worker.local_directory, collective=collective
        )
        return bytes(booster.save_raw("ubj")) if shard.number == 0 else None
    finally:
        _running.discard(name)
