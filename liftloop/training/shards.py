"""A fit in shares: each worker reads its own partitions, and XGBoost's collective makes one model of all.

Driven here and not by `xgboost.dask`, which needs all rows in the memory of the workers before it begins, has no place
for a checkpoint, and may wait for ever where a worker left or has no rows (dmlc/xgboost #9419, #7494).
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

BYTES_PER_VALUE = 12  # at the most, while a matrix is made in memory: the rows, their bins, and the bins by column

_trackers: dict[str, RabitTracker] = {}  # of this process: what brings the shares of a fit together, by its name
_running: set[str] = set()  # the fits that this process has a share in


@dataclass(frozen=True)
class Share:
    """One worker's part of a fit: `number` from 0."""

    number: int
    training: tuple[ObjectRef, ...]
    validation: tuple[ObjectRef, ...]


@dataclass(frozen=True)
class Fit:
    """What all shares of a fit have in common, and where it goes on. Small: it travels to every worker."""

    recipe: Recipe
    parameters: Parameters
    checkpoints: Checkpoints
    begun: ObjectRef | None
    is_in_memory: bool
    checkpoint_seconds: float = SECONDS_BETWEEN


def deal(training: Sequence[ObjectRef], validation: Sequence[ObjectRef], count: int) -> list[Share]:
    """Shares of about equal bytes. The same partitions and count give the same shares."""
    dealt = zip(_deal(training, count), _deal(validation, count), strict=True)
    return [Share(number, *partitions) for number, partitions in enumerate(dealt)]


def _deal(refs: Sequence[ObjectRef], count: int) -> list[tuple[ObjectRef, ...]]:
    """The largest first, each to who has least so far: Graham 1969, "Bounds on Multiprocessing Timing Anomalies"."""
    hands: list[list[ObjectRef]] = [[] for _ in range(count)]
    least = [(0, number) for number in range(count)]
    heapify(least)
    for ref in sorted(refs, key=lambda ref: (-ref.size_bytes, ref.key)):
        held_bytes, number = least[0]
        hands[number].append(ref)
        heapreplace(least, (held_bytes + ref.size_bytes, number))
    return [tuple(sorted(hand, key=lambda ref: ref.key)) for hand in hands]


def is_in_memory(recipe: Recipe, rows: int, memory_bytes: float) -> bool:
    """Whether so many rows can be fitted in so much memory; beyond it their bins are kept in files."""
    return rows * len(recipe.encoder.columns) * BYTES_PER_VALUE <= memory_bytes


def fit_share(
    fit: Fit,
    share: Share,
    threads: int,
    *,
    cache_folder: str | None = None,
    together: AbstractContextManager[Any] = nullcontext(),  # noqa: B008 it has no state
) -> xgboost.Booster:
    """The booster of all shares, which are fitted `together`, each in a process of its own."""
    parts = {name: _Partitions(fit.recipe, getattr(share, name)) for name in ("training", "validation")}
    rows: dict[str, Iterable[Rows]] = {name: list(each) if fit.is_in_memory else each for name, each in parts.items()}
    begun = fit.checkpoints.read(fit.begun) if fit.begun else None
    use_threads = xgboost.config_context(nthread=threads)  # whatever Dask has set for OpenMP
    with together, use_threads, TemporaryDirectory(prefix="liftloop-", dir=cache_folder) as folder:
        return _fit_rows(fit, rows, threads, None if fit.is_in_memory else folder, begun, share.number == 0)


def _fit_rows(
    fit: Fit, rows: dict[str, Iterable[Rows]], threads: int, cache_folder: str | None, begun: bytes | None, saves: bool
) -> xgboost.Booster:
    """Takes the rows out of the dict: once they are in bins, nobody needs them."""
    learned = quantile_matrix(fit.recipe, rows.pop("training"), threads, None, cache_folder)
    judged = quantile_matrix(fit.recipe, rows.pop("validation"), threads, learned, cache_folder)
    save = fit.checkpoints.saver(fit.checkpoint_seconds) if saves else None
    return boost(fit.recipe, fit.parameters | {"nthread": threads}, learned, judged, begun=begun, after_round=save)


@dataclass(frozen=True)
class _Partitions:
    """Reads its partitions one by one, each time anew."""

    recipe: Recipe
    refs: tuple[ObjectRef, ...]

    def __iter__(self) -> Iterator[Rows]:
        return map(self.recipe.load, self.refs) if self.refs else iter([self.recipe.no_rows()])


def open_tracker(name: str, worker: str, shares: int, limit_seconds: int) -> dict[str, Any]:
    """Called in the worker at that address, which the others can reach; returns how they find the tracker."""
    host = get_address_host(worker)
    tracker = _trackers[name] = RabitTracker(n_workers=shares, host_ip=host, sortby="task", timeout=limit_seconds)
    tracker.start()
    arguments: dict[str, Any] = tracker.worker_args()
    return arguments | {"dmlc_timeout": limit_seconds, "dmlc_retry": 1}  # who leaves does not come back


def close_tracker(name: str) -> None:
    """Called where it was opened; who still waits for the others stops."""
    with suppress(XGBoostError):  # its way to say that not all came
        _trackers.pop(name).free()


def is_running(name: str) -> bool:
    """Whether this process still works, or waits, for the fit of that name."""
    return name in _running


def fit_on_worker(name: str, fit: Fit, share: Share, tracker_arguments: dict[str, Any]) -> bytes | None:
    """One share, in the Dask worker that this is called in; the first returns the booster (UBJSON)."""
    worker = get_worker()
    together = CommunicatorContext(**tracker_arguments, dmlc_task_id=f"{share.number:06}")
    _running.add(name)
    try:
        booster = fit_share(fit, share, worker.state.nthreads, cache_folder=worker.local_directory, together=together)
        return bytes(booster.save_raw("ubj")) if share.number == 0 else None
    finally:
        _running.discard(name)
