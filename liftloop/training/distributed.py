"""One fit on the workers of a cluster, begun again from its last checkpoint when one of them is lost."""

# mypy: allow-untyped-calls

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

import xgboost
from distributed import Client, KilledWorker, wait
from xgboost.core import XGBoostError

from liftloop.compute.cluster import (
    LONGEST_CAUSE_CHARACTERS,
    WorkersLostError,
    ask_worker,
    known_workers,
    worker_addresses,
)
from liftloop.compute.compute import Workers
from liftloop.training.boosting import Parameters, Recipe
from liftloop.training.checkpoints import SECONDS_BETWEEN, Checkpoints, rounds_done
from liftloop.training.frame import FramePart
from liftloop.training.shards import (
    Fit,
    Share,
    close_tracker,
    deal,
    fit_on_worker,
    is_in_memory,
    is_running,
    open_tracker,
)

_log = logging.getLogger(__name__)

STUCK_AFTER_SECONDS = 900.0  # without a checkpoint
MOST_LOSSES = 3  # one after the other, without a checkpoint in between
RETURN_SECONDS = 60.0  # for a lost worker to be replaced; after that the others go on without it
_POLL_SECONDS = 0.5
_RESULT_SECONDS = 60.0
_NOTICE_SECONDS = 3.0  # until all know of a loss that one of them has seen


def fit_on_workers(
    workers: Workers,
    recipe: Recipe,
    parameters: Parameters,
    training: FramePart,
    validation: FramePart,
    *,
    stuck_after_seconds: float = STUCK_AFTER_SECONDS,
    checkpoint_seconds: float = SECONDS_BETWEEN,
) -> xgboost.Booster:
    """The booster of all rows, each read by the worker that has the share with it.

    The same parts and number of workers give the same bytes, also if a worker is lost and replaced on the way.

    Raises:
        WorkersLostError: workers were lost again and again, or nothing went on within the limit.
    """
    addresses, shares = _dealt(workers, training, validation)
    checkpoints = Checkpoints.of(recipe, parameters, shares)
    in_memory = is_in_memory(recipe, training.rows + validation.rows, _memory_bytes(workers.client, addresses))
    begun, losses = checkpoints.newest(), 0
    while True:
        fit = Fit(recipe, parameters, checkpoints, begun, in_memory, checkpoint_seconds)
        attempt = _Attempt(workers.client, fit, shares, addresses)
        try:
            booster = attempt.run(stuck_after_seconds)
        except _Lost as lost:
            attempt.release()
            before, begun = begun, checkpoints.newest()
            losses = losses + 1 if begun == before else 1
            if losses == MOST_LOSSES:
                raise WorkersLostError.because(lost) from lost
            _log.warning("A Dask worker was lost; the fit goes on after round %d. Cause: %s", rounds_done(begun), lost)
            addresses, shares = _dealt(workers, training, validation)
        else:
            checkpoints.clear()
            return booster


class _Lost(Exception):
    """A worker left while it was needed."""


@dataclass(frozen=True)
class _Attempt:
    """Each share on a worker of its own, until all are done or one cannot be."""

    client: Client
    fit: Fit
    shares: Sequence[Share]
    workers: list[str]
    name: str = field(default_factory=lambda: uuid4().hex)

    def run(self, limit_seconds: float) -> xgboost.Booster:
        futures = self._submit()
        try:
            self._watch(futures, limit_seconds)
            return xgboost.Booster(model_file=bytearray(futures[0].result(timeout=_RESULT_SECONDS)))
        except TimeoutError as error:
            raise _Lost("the worker with the finished model left") from error
        finally:
            self.client.cancel(futures)
            ask_worker(self.client, self.workers[0], close_tracker, self.name)

    def _submit(self) -> list[Any]:
        first = self.workers[0]
        meeting = (self.name, first, len(self.shares), self.fit.recipe.settings.dask_collective_seconds)
        arguments = ask_worker(self.client, first, open_tracker, *meeting)
        if arguments is None:
            raise _Lost(f"{first} does not answer")
        return [
            self.client.submit(fit_on_worker, self.name, self.fit, share, arguments, workers=[address], pure=False)
            for share, address in zip(self.shares, self.workers, strict=False)  # there may be more workers than shares
        ]

    def release(self) -> None:
        """Leave no worker waiting in the collective for one that is gone: it could do nothing else."""
        deadline = monotonic() + _NOTICE_SECONDS
        while (held := self._held()) and monotonic() < deadline:
            sleep(_POLL_SECONDS)
        for address in held:  # the thread cannot be interrupted; Dask's nanny starts the process anew
            ask_worker(self.client, address, os._exit, 1)

    def _held(self) -> list[str]:
        return [address for address in self._present() if ask_worker(self.client, address, is_running, self.name)]

    def _present(self) -> list[str]:
        known = worker_addresses(self.client)
        return [address for address in self.workers[: len(self.shares)] if address in known]

    def _watch(self, futures: Sequence[Any], limit_seconds: float) -> None:
        """Return when all are done.

        Raises:
            _Lost: a worker is gone.
            WorkersLostError: the limit passed without a checkpoint, or XGBoost could not go on.
        """
        newest, deadline = self.fit.begun, monotonic() + limit_seconds
        while waiting := [future for future in futures if not future.done()]:
            with suppress(TimeoutError):
                wait(waiting, timeout=_POLL_SECONDS, return_when="FIRST_COMPLETED")
            self._check(futures)
            if monotonic() > deadline:
                before, newest, deadline = newest, self.fit.checkpoints.newest(), monotonic() + limit_seconds
                if newest == before:
                    raise WorkersLostError.because(f"nothing went on for {limit_seconds:.0f} s")

    def _check(self, futures: Sequence[Any]) -> None:
        errors = [future.exception() for future in futures if future.status == "error"]
        if self._has_lost_one(_NOTICE_SECONDS if errors else 0):
            raise _Lost("; ".join(map(str, errors))[:LONGEST_CAUSE_CHARACTERS] or "it left")
        for error in sorted(errors, key=lambda error: isinstance(error, XGBoostError)):  # others follow from the first
            if isinstance(error, XGBoostError | KilledWorker):
                raise WorkersLostError.because(error) from error
            raise error

    def _has_lost_one(self, notice_seconds: float) -> bool:
        deadline = monotonic() + notice_seconds
        while not (is_lost := len(self._present()) < len(self.shares)) and monotonic() < deadline:
            sleep(_POLL_SECONDS)
        return is_lost


def _dealt(workers: Workers, training: FramePart, validation: FramePart) -> tuple[list[str], list[Share]]:
    """The workers, as soon as there are as many as at first, or those that are left; and what each is to read."""
    with suppress(TimeoutError):
        workers.client.wait_for_workers(workers.count, timeout=RETURN_SECONDS)
    addresses = worker_addresses(workers.client)
    if not addresses:
        raise WorkersLostError.because(f"no worker came back within {RETURN_SECONDS:.0f} s")
    count = min(len(addresses), len(training.partitions))
    return addresses, deal(training.partitions, validation.partitions, count)


def _memory_bytes(client: Client, workers: Sequence[str]) -> float:
    """What these workers may use together."""
    known = known_workers(client)
    return sum(known[address]["memory_limit"] or inf for address in workers)
