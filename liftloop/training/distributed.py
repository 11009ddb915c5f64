"""One fit on the workers of a cluster, resumed from its last checkpoint when a worker is lost."""

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
    Shard,
    assign_partitions,
    close_tracker,
    fit_on_worker,
    is_in_memory,
    is_running,
    open_tracker,
)

_log = logging.getLogger(__name__)

STUCK_AFTER_SECONDS = 900.0  # without a new checkpoint
MOST_LOSSES = 3  # in a row, without a new checkpoint in between
RETURN_SECONDS = 60.0  # for a lost worker to be replaced; then the fit continues without it
_POLL_SECONDS = 0.5
_RESULT_SECONDS = 60.0
_NOTICE_SECONDS = 3.0  # until every worker has noticed a lost one


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
    """The booster of all rows; each worker reads the partitions of its own shard.

    The same parts and number of workers give the same bytes, even if a worker is lost and replaced during the fit.

    Raises:
        WorkersLostError: workers were lost repeatedly, or the fit made no progress within the limit.
    """
    addresses, shards = _shards_of(workers, training, validation)
    checkpoints = Checkpoints.of(recipe, parameters, shards)
    in_memory = is_in_memory(recipe, training.rows + validation.rows, _memory_bytes(workers.client, addresses))
    resume_from, losses = checkpoints.newest(), 0
    while True:
        fit = Fit(recipe, parameters, checkpoints, resume_from, in_memory, checkpoint_seconds)
        attempt = _Attempt(workers.client, fit, shards, addresses)
        try:
            booster = attempt.run(stuck_after_seconds)
        except _Lost as lost:
            attempt.release()
            before, resume_from = resume_from, checkpoints.newest()
            losses = losses + 1 if resume_from == before else 1
            if losses == MOST_LOSSES:
                raise WorkersLostError.because(lost) from lost
            done = rounds_done(resume_from)
            _log.warning("A Dask worker was lost; the fit resumes after round %d. Cause: %s", done, lost)
            addresses, shards = _shards_of(workers, training, validation)
        else:
            checkpoints.clear()
            return booster


class _Lost(Exception):
    """A worker left during the fit."""


@dataclass(frozen=True)
class _Attempt:
    """Each shard on its own worker, until all are done or a worker is lost."""

    client: Client
    fit: Fit
    shards: Sequence[Shard]
    workers: list[str]
    name: str = field(default_factory=lambda: uuid4().hex)

    def run(self, limit_seconds: float) -> xgboost.Booster:
        futures = self._submit()
        try:
            self._watch(futures, limit_seconds)
            return xgboost.Booster(model_file=bytearray(futures[0].result(timeout=_RESULT_SECONDS)))
        except TimeoutError as error:
            raise _Lost("the worker that held the finished model left") from error
        finally:
            self.client.cancel(futures)
            ask_worker(self.client, self.workers[0], close_tracker, self.name)

    def _submit(self) -> list[Any]:
        first = self.workers[0]
        meeting = (self.name, first, len(self.shards), self.fit.recipe.settings.dask_collective_seconds)
        arguments = ask_worker(self.client, first, open_tracker, *meeting)
        if arguments is None:
            raise _Lost(f"{first} does not answer")
        return [
            self.client.submit(fit_on_worker, self.name, self.fit, shard, arguments, workers=[address], pure=False)
            for shard, address in zip(self.shards, self.workers, strict=False)  # there may be more workers than shards
        ]

    def release(self) -> None:
        """Free the workers that still wait in the collective for one that is gone."""
        deadline = monotonic() + _NOTICE_SECONDS
        while (blocked := self._blocked()) and monotonic() < deadline:
            sleep(_POLL_SECONDS)
        for address in blocked:  # the thread cannot be interrupted; Dask's nanny restarts the process
            ask_worker(self.client, address, os._exit, 1)

    def _blocked(self) -> list[str]:
        return [address for address in self._present() if ask_worker(self.client, address, is_running, self.name)]

    def _present(self) -> list[str]:
        known = worker_addresses(self.client)
        return [address for address in self.workers[: len(self.shards)] if address in known]

    def _watch(self, futures: Sequence[Any], limit_seconds: float) -> None:
        """Return when all are done.

        Raises:
            _Lost: a worker is gone.
            WorkersLostError: there was no new checkpoint within the limit, or XGBoost failed.
        """
        newest, deadline = self.fit.resume_from, monotonic() + limit_seconds
        while waiting := [future for future in futures if not future.done()]:
            with suppress(TimeoutError):
                wait(waiting, timeout=_POLL_SECONDS, return_when="FIRST_COMPLETED")
            self._require_no_error(futures)
            if monotonic() > deadline:
                before, newest, deadline = newest, self.fit.checkpoints.newest(), monotonic() + limit_seconds
                if newest == before:
                    raise WorkersLostError.because(f"no progress for {limit_seconds:.0f} s")

    def _require_no_error(self, futures: Sequence[Any]) -> None:
        errors = [future.exception() for future in futures if future.status == "error"]
        if self._has_lost_one(_NOTICE_SECONDS if errors else 0):
            raise _Lost("; ".join(map(str, errors))[:LONGEST_CAUSE_CHARACTERS] or "it left")
        for error in sorted(errors, key=lambda error: isinstance(error, XGBoostError)):  # XGBoost's may be consequences
            if isinstance(error, XGBoostError | KilledWorker):
                raise WorkersLostError.because(error) from error
            raise error

    def _has_lost_one(self, notice_seconds: float) -> bool:
        deadline = monotonic() + notice_seconds
        while not (is_lost := len(self._present()) < len(self.shards)) and monotonic() < deadline:
            sleep(_POLL_SECONDS)
        return is_lost


def _shards_of(workers: Workers, training: FramePart, validation: FramePart) -> tuple[list[str], list[Shard]]:
    """The workers, once lost ones are back or `RETURN_SECONDS` have passed, and the shards for them."""
    with suppress(TimeoutError):
        workers.client.wait_for_workers(workers.count, timeout=RETURN_SECONDS)
    addresses = worker_addresses(workers.client)
    if not addresses:
        raise WorkersLostError.because(f"no worker came back within {RETURN_SECONDS:.0f} s")
    count = min(len(addresses), len(training.partitions))
    return addresses, assign_partitions(training.partitions, validation.partitions, count)


def _memory_bytes(client: Client, workers: Sequence[str]) -> float:
    """The memory limits of these workers, in total."""
    known = known_workers(client)
    return sum(known[address]["memory_limit"] or inf for address in workers)
