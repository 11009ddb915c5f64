"""One XGBoost fit: encoded rows in, booster out. Runs alike in this process and in a Dask worker.

The matrix takes a part at a time and keeps one byte or two of a value, in memory or in files; either way, and wherever
a training is taken up again, the trees are the same to the byte.
"""

# mypy: allow-subclassing-any

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any, Self

import numpy as np
import pandas as pd
import xgboost
from numpy.typing import NDArray

from liftloop.contract.sections import Reward, Training
from liftloop.model.encoder import Encoder
from liftloop.settings import Settings
from liftloop.stats.scoring import sampling_weight
from liftloop.storage.store import ObjectRef, Store
from liftloop.training.constraints import constraint_parameters
from liftloop.training.frame import FramePart, read_partition
from liftloop.training.target_encoding import encode_out_of_fold

Parameters = dict[str, float]
AfterRound = Callable[[xgboost.Booster, float], bool | None]

BINS = 64  # per number: rare rewards cannot tell finer ones apart, and a fit takes half the time of XGBoost's 256
STOP_AFTER_ROUNDS = 15  # without improvement on the validation part


@dataclass(frozen=True)
class Rows:
    """Encoded rows; one of weight w stands for w rows like it."""

    features: pd.DataFrame
    reward: "pd.Series[float]"
    weight: "pd.Series[float]"


@dataclass(frozen=True)
class Strides:
    """Which rows are taken: every so many of those without a reward, and of those with."""

    others: int = 1
    rewarded: int = 1

    @classmethod
    def to_keep(cls, rows: int, part: FramePart) -> Self:
        """At most so many rows of a part with a reward, and as many without."""
        return cls(others=ceil((part.rows - part.rewards) / rows), rewarded=ceil(part.rewards / rows))


@dataclass(frozen=True)
class Recipe:
    """What all fits of one training have in common. Small: it travels to every worker."""

    settings: Settings
    encoder: Encoder
    reward: Reward
    reward_rate: float  # of the training part: where boosting starts from
    maximum_rounds: int
    seed: int
    out_of_fold: tuple[Encoder, ...] = ()  # by fold: the encoder for its rows among those learned from
    learned_from: frozenset[str] = frozenset()  # keys of the partitions that the encoders were made from
    constraints: Training = field(default_factory=Training)
    negatives_kept: float = 1.0

    def load(self, ref: ObjectRef, strides: Strides = Strides()) -> Rows:
        """A partition of the training frame, or some of its rows, encoded; no row is told of its own reward."""
        rows = read_partition(Store(self.settings), ref)
        kept, stands_for = thin_out(rows[self.reward].to_numpy(dtype=np.float32), strides)
        rows = rows.iloc[kept]
        reward = rows[self.reward].astype(np.float32)
        weights = stands_for * sampling_weight(reward.to_numpy(), self.negatives_kept)
        return Rows(self._encode(rows, ref.key), reward, pd.Series(weights, index=rows.index, dtype=np.float32))

    def _encode(self, rows: pd.DataFrame, key: str) -> pd.DataFrame:
        is_learned_from = self.out_of_fold and key in self.learned_from
        return encode_out_of_fold(self.out_of_fold, rows) if is_learned_from else self.encoder.encode(rows)

    def select(self, columns: Sequence[str]) -> Self:
        """The recipe of a model that reads these of the encoder's columns alone."""
        out_of_fold = tuple(encoder.select(columns) for encoder in self.out_of_fold)
        return replace(self, encoder=self.encoder.select(columns), out_of_fold=out_of_fold)

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
        return fixed | constraint_parameters(self.encoder, self.constraints) | parameters


def thin_out(reward: NDArray[Any], strides: Strides) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """The positions of the rows that are taken, ascending, and how many rows each of them stands for.

    Rewards are what little there is to learn from: He et al. 2014, "Practical Lessons from Predicting Clicks on Ads at
    Facebook", section 6.3. The weights keep the rate, and what a parameter such as min_child_weight means.
    """
    is_rewarded = reward > 0
    rewarded, others = np.flatnonzero(is_rewarded), np.flatnonzero(~is_rewarded)
    kept = np.sort(np.r_[others[:: strides.others], rewarded[:: strides.rewarded]])
    return kept, np.where(is_rewarded[kept], strides.rewarded, strides.others).astype(np.float32)


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
    after_round: AfterRound | None = None,
) -> xgboost.Booster:
    """Grow trees until `judged` was not predicted better for some rounds.

    Not by `xgboost.train`, which counts the rounds of a continued training from 0 and forgets which one was best.

    Args:
        begun: the booster of this very fit after any of its rounds (UBJSON): it ends as if it never had been cut off.
        after_round: is told of each round but the last and of its log loss; if it says True the fit ends there.
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
        if after_round and after_round(booster, log_loss):
            break
    return booster


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
