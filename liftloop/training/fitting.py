"""One XGBoost fit: encoded rows in, booster out. Runs alike in this process and in a Dask worker."""

from collections.abc import Sequence
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
        rows = read_partition(Store(self.settings), ref)
        weight = pd.Series(1.0, index=rows.index, dtype=np.float32)
        return Rows(self.encoder.encode(rows), rows[self.reward].astype(np.float32), weight)

    def no_rows(self) -> Rows:
        """The shape and types of what `load` returns."""
        nothing = pd.Series(dtype=np.float32)
        return Rows(pd.DataFrame(columns=self.encoder.columns, dtype=np.float32), nothing, nothing)

    def matrix_options(self) -> dict[str, Any]:
        return {"feature_types": self.encoder.feature_types, "enable_categorical": True, "max_bin": BINS}

    def train_options(self, parameters: Parameters) -> dict[str, Any]:
        """Keyword arguments of `xgboost.train` and of `xgboost.dask.train`."""
        fixed = {
            "objective": "binary:logistic",
            "eval_metric": "logloss",
            "tree_method": "hist",
            "max_bin": BINS,
            "base_score": self.reward_rate,
            "seed": self.seed,
        }
        return {
            "params": fixed | parameters,
            "num_boost_round": self.maximum_rounds,
            "early_stopping_rounds": STOP_AFTER_ROUNDS,
            "verbose_eval": False,
        }


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
    options = recipe.matrix_options() | {"nthread": threads}
    learned = xgboost.QuantileDMatrix(**_joined(training), **options)
    judged = xgboost.QuantileDMatrix(**_joined(validation), ref=learned, **options)
    chosen = recipe.train_options(parameters | {"nthread": threads})
    return xgboost.train(dtrain=learned, evals=[(judged, "validation")], **chosen)


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


def _joined(parts: Sequence[Rows]) -> dict[str, Any]:
    return {
        "data": pd.concat([part.features for part in parts]),
        "label": pd.concat([part.reward for part in parts]),
        "weight": pd.concat([part.weight for part in parts]),
    }
