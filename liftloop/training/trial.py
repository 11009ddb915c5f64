"""One trial of a search: a fit on samples, pruned when it falls behind earlier trials."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from time import perf_counter

import numpy as np
import xgboost

from liftloop.storage.frozen import Frozen
from liftloop.training.boosting import Parameters, Recipe, Rows, boost, quantile_matrix

MINIMUM_EARLIER_TRIALS = 4  # with fewer, a median is too noisy
HALF_WAY = 3.0  # in `eta` times rounds: about half of what a good trial takes


class Trial(Frozen):
    """The result of one choice on the validation part; for a pruned trial, the log loss reached so far."""

    number: int
    parameters: dict[str, int | float]  # of XGBoost
    encoding: dict[str, str | bool | int]  # what the model reads
    rounds: int
    log_loss: float
    seconds: float
    is_given_up: bool  # pruned; as stored
    curve: tuple[float, ...]  # the log loss after each round


@dataclass(frozen=True)
class Task:
    """One trial to run: its parameters and columns, and the earlier trials to prune it by."""

    number: int
    parameters: Parameters
    encoding: dict[str, str | bool | int]
    columns: tuple[str, ...]
    earlier: tuple[Trial, ...]  # finished before this one started


def run_trial(task: Task, recipe: Recipe, training: Sequence[Rows], validation: Sequence[Rows], threads: int) -> Trial:
    """Boost until the validation loss stops improving, or the trial falls behind earlier ones."""
    started = perf_counter()
    chosen = recipe.select(task.columns)
    pruning = Pruning(task)
    with xgboost.config_context(nthread=threads):  # overrides what Dask has set for OpenMP
        dtrain = quantile_matrix(chosen, _chosen(training, chosen), threads)
        dvalid = quantile_matrix(chosen, _chosen(validation, chosen), threads, dtrain)
        booster = boost(chosen, task.parameters | {"nthread": threads}, dtrain, dvalid, after_round=pruning)
    return Trial(
        number=task.number,
        parameters=task.parameters,
        encoding=task.encoding,
        rounds=booster.best_iteration + 1,
        log_loss=booster.best_score,
        seconds=round(perf_counter() - started, 3),
        is_given_up=pruning.has_given_up,
        curve=tuple(pruning.curve),
    )


class Pruning:
    """Prunes a trial if, half way, its best log loss is above the median of earlier trials at the same progress.

    The median rule: Golovin et al. 2017, "Google Vizier: A Service for Black-Box Optimization", section 3.5.1. Progress
    is `eta` times rounds, because small steps need more rounds. Checked only once: if checked in every round, nearly
    all trials are pruned.
    """

    def __init__(self, task: Task) -> None:
        self._half_way = ceil(HALF_WAY / task.parameters["eta"])
        self._reached = [_reached_half_way(trial) for trial in task.earlier]
        self.curve: list[float] = []
        self.has_given_up = False

    def __call__(self, _booster: xgboost.Booster, log_loss: float) -> bool:
        """Called after each round; returns whether to prune the trial."""
        self.curve.append(log_loss)
        if len(self.curve) == self._half_way and len(self._reached) >= MINIMUM_EARLIER_TRIALS:
            self.has_given_up = bool(min(self.curve) > np.median(self._reached))
        return self.has_given_up


def _reached_half_way(trial: Trial) -> float:
    return min(trial.curve[: ceil(HALF_WAY / trial.parameters["eta"])])


def _chosen(parts: Sequence[Rows], recipe: Recipe) -> list[Rows]:
    return [replace(part, features=part.features[recipe.encoder.columns]) for part in parts]
