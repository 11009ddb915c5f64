"""One trial of a search: a fit on samples, given up when it falls behind."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from time import perf_counter

import numpy as np
import xgboost

from liftloop.storage.frozen import Frozen
from liftloop.training.boosting import Parameters, Recipe, Rows, boost, quantile_matrix

MINIMUM_RIVALS = 4  # below, a median says little
HALF_WAY = 3.0  # of `eta` times rounds: about half of what a good trial takes


class Trial(Frozen):
    """What one choice came to on the validation part. One given up has the log loss that it had reached."""

    number: int
    parameters: dict[str, int | float]  # of XGBoost
    encoding: dict[str, str | bool | int]  # what the model reads
    rounds: int
    log_loss: float
    seconds: float
    is_given_up: bool
    curve: tuple[float, ...]  # the log loss after each round


@dataclass(frozen=True)
class Task:
    """One trial as it is handed out: what to try, which columns that means, and those that ended before it."""

    number: int
    parameters: Parameters
    encoding: dict[str, str | bool | int]
    columns: tuple[str, ...]
    rivals: tuple[Trial, ...]  # those that ended before


def try_out(task: Task, recipe: Recipe, training: Sequence[Rows], validation: Sequence[Rows], threads: int) -> Trial:
    """Boost until the validation part stops improving, or the trial is behind its rivals."""
    started = perf_counter()
    chosen = recipe.select(task.columns)
    pruning = Pruning(task)
    with xgboost.config_context(nthread=threads):  # whatever Dask has set for OpenMP
        learned = quantile_matrix(chosen, _chosen(training, chosen), threads)
        judged = quantile_matrix(chosen, _chosen(validation, chosen), threads, learned)
        booster = boost(chosen, task.parameters | {"nthread": threads}, learned, judged, after_round=pruning)
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
    """Gives a trial up if, half way, its best log loss is above the median of its rivals' when they were as far along.

    The median rule: Golovin et al. 2017, "Google Vizier: A Service for Black-Box Optimization", section 3.5.1. How far
    along is `eta` times rounds, for small steps need more of them. Once only: asked in every round, nearly all fail.
    """

    def __init__(self, task: Task) -> None:
        self._half_way = ceil(HALF_WAY / task.parameters["eta"])
        self._reached = [_reached_half_way(rival) for rival in task.rivals]
        self.curve: list[float] = []
        self.has_given_up = False

    def __call__(self, _booster: xgboost.Booster, log_loss: float) -> bool:
        """Called after each round: whether to give up."""
        self.curve.append(log_loss)
        if len(self.curve) == self._half_way and len(self._reached) >= MINIMUM_RIVALS:
            self.has_given_up = bool(min(self.curve) > np.median(self._reached))
        return self.has_given_up


def _reached_half_way(trial: Trial) -> float:
    return min(trial.curve[: ceil(HALF_WAY / trial.parameters["eta"])])


def _chosen(parts: Sequence[Rows], recipe: Recipe) -> list[Rows]:
    return [replace(part, features=part.features[recipe.encoder.columns]) for part in parts]
