"""One XGBoost fit: encoded rows in, booster out. Runs alike in this process and in a Dask worker.

The matrix takes a part at a time and keeps one byte or two of a value, in memory or in files; either way, and wherever
a training is taken up again, the trees are the same to the byte.
"""

# mypy: allow-subclassing-any

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import xgboost

from liftloop.contract_sections import Reward
from liftloop.settings import Settings
from liftloop.store import ObjectRef, Store
from liftloop.training.encoder import Encoder
from liftloop.training.frame import read_partition

Parameters = dict[str, float]

BINS = 64  # per number: rare rewards cannot tell finer ones apart, and a fit takes half the time of XGBoost's 256
STOP_AFTER_ROUNDS = 15  # without improvement on the validation part


@dataclass(frozen=True)
class Rows:
    """Encoded rows; one of weight w stands for w rows like it."""

    features: pd.DataFrame
    reward: "pd.Series[float]"
    weight: "pd.Series[float]"


@dataclass(frozen=True)
class Trial:
    """What one choice of parameters came to on the validation part."""

    number: int
    parameters: Parameters
    rounds: int
    log_loss: float
    seconds: float


@dataclass(frozen=True)
class Recipe:
    """What all fits of one training have in common. Small: it travels to every worker."""

    settings: Settings
    encoder: Encoder
    reward: Reward
    reward_rate: float  # of the training part: where boosting starts from
    maximum_rounds: int
    seed: int

    def load(self, ref: ObjectRef) -> Rows:
        """A partition of the training frame, encoded."""
        return self.as_rows(read_partition(Store(self.settings), ref))

    def as_rows(self, rows: pd.DataFrame) -> Rows:
        """Raw rows, encoded."""
        weight = pd.Series(1.0, index=rows.index, dtype=np.float32)
        return Rows(self.encoder.encode(rows), rows[self.reward].astype(np.float32), weight)

    def no_rows(self) -> Rows:
        """The shape and types of what `load` returns."""
        nothing = pd.Series(dtype=np.float32)
        return Rows(pd.DataFrame(columns=self.encoder.columns, dtype=np.float32), nothing, nothing)

    def train_options(self, parameters: Parameters) -> dict[str, Any]:
        """The parameters of the booster."""
        fixed = {
            "objective": "binary:logistic",
            "eval_metric": "logloss",
            "tree_method": "hist",
            "max_bin": BINS,
            "base_score": self.reward_rate,
            "seed": self.seed,
            "seed_per_iteration": True,  # so that a round draws the same, whatever was before it
            "device": self.settings.device,
        }
        return fixed | parameters


def thin_out(rows: Rows, stride: int, rewarded_stride: int) -> Rows:
    """Every `stride`-th row without a reward and every `rewarded_stride`-th with, weighted to stand for all of them.

    Rewards are what little there is to learn from: He et al. 2014, "Practical Lessons from Predicting Clicks on Ads at
    Facebook", section 6.3. The weights keep the rate, and what a parameter such as min_child_weight means.
    """
    is_rewarded = rows.reward.to_numpy() > 0
    kept = np.sort(np.r_[np.flatnonzero(~is_rewarded)[::stride], np.flatnonzero(is_rewarded)[::rewarded_stride]])
    stands_for = np.where(is_rewarded, rewarded_stride, stride).astype(np.float32)
    return Rows(rows.features.iloc[kept], rows.reward.iloc[kept], (rows.weight * stands_for).iloc[kept])


def fit(
    recipe: Recipe, parameters: Parameters, training: Sequence[Rows], validation: Sequence[Rows], threads: int
) -> xgboost.Booster:
    """Boost until the validation part stops improving; `best_iteration` and `best_score` say where that was.

    The same rows in the same order give the same trees, whatever the number of threads.
    """
    learned = quantile_matrix(recipe, training, threads)
    judged = quantile_matrix(recipe, validation, threads, learned)
    return boost(recipe, parameters | {"nthread": threads}, learned, judged)


def quantile_matrix(
    recipe: Recipe,
    parts: Iterable[Rows],
    threads: int,
    ref: xgboost.DMatrix | None = None,
    cache_folder: str | None = None,
) -> xgboost.DMatrix:
    """The rows in bins, the same bins as those of `ref` if given.

    Args:
        parts: gone through three times, one part at a time; each time they must be the same.
        cache_folder: where the bins are kept, in files; None: in memory.
    """
    options = {"max_bin": BINS, "enable_categorical": True, "nthread": threads, "ref": ref}
    if cache_folder is None:
        return xgboost.QuantileDMatrix(_Batches(recipe, parts), **options)
    return xgboost.ExtMemQuantileDMatrix(_Batches(recipe, parts, f"{cache_folder}/bins"), **options)


def boost(
    recipe: Recipe,
    parameters: Parameters,
    learned: xgboost.DMatrix,
    judged: xgboost.DMatrix,
    *,
    begun: bytes | None = None,
    after_round: Callable[[xgboost.Booster], object] = bool,
) -> xgboost.Booster:
    """Grow trees until `judged` was not predicted better for some rounds.

    Not by `xgboost.train`, which counts the rounds of a continued training from 0 and forgets which one was best.

    Args:
        begun: the booster of this very fit after any of its rounds (UBJSON): it ends as if it never had been cut off.
        after_round: is told of each round but the last.
    """
    options = recipe.train_options(parameters)
    booster = xgboost.Booster(options, [learned, judged], model_file=bytearray(begun) if begun else None)
    for number in range(booster.num_boosted_rounds(), recipe.maximum_rounds):
        booster.load_config(booster.save_config())  # a new sampler of columns: its state would be in no checkpoint
        booster.update(learned, number)
        log_loss = float(booster.eval(judged).rpartition(":")[2])
        if number == 0 or log_loss < booster.best_score:
            booster.set_attr(best_iteration=str(number), best_score=repr(log_loss))
        elif number - booster.best_iteration >= STOP_AFTER_ROUNDS:
            break
        after_round(booster)
    return booster


def try_out(
    numbered: tuple[int, Parameters],
    recipe: Recipe,
    training: Sequence[Rows],
    validation: Sequence[Rows],
    threads: int,
) -> Trial:
    """One trial of a search."""
    started = perf_counter()
    number, parameters = numbered
    booster = fit(recipe, parameters, training, validation, threads)
    seconds = round(perf_counter() - started, 3)
    return Trial(number, parameters, booster.best_iteration + 1, booster.best_score, seconds)


class _Batches(xgboost.DataIter):
    """Hands XGBoost one part after the other."""

    def __init__(self, recipe: Recipe, parts: Iterable[Rows], cache_prefix: str | None = None) -> None:
        self._recipe, self._parts = recipe, parts
        self.reset()
        super().__init__(cache_prefix)

    def reset(self) -> None:
        self._left: Iterator[Rows] = iter(self._parts)

    def next(self, input_data: Callable[..., None]) -> bool:
        rows = next(self._left, None)
        if rows is None:
            return False
        encoder = self._recipe.encoder
        names = {"feature_names": encoder.columns, "feature_types": encoder.feature_types}
        input_data(data=rows.features.to_numpy(), label=rows.reward, weight=rows.weight, **names)
        return True
