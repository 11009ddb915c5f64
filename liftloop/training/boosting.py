"""One XGBoost fit: encoded rows in, booster out. Runs alike in this process and in a Dask worker.

The matrix reads one part at a time and keeps one or two bytes per value, in memory or in files. Either way, and from
whichever round a fit resumes, the trees are identical to the byte.
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

BINS = 64  # per numeric column: rare rewards do not resolve finer bins, and a fit takes half the time of 256 bins
STOP_AFTER_ROUNDS = 15  # without improvement on the validation part


@dataclass(frozen=True)
class Rows:
    """Encoded rows; a row of weight w represents w rows."""

    features: pd.DataFrame
    reward: "pd.Series[float]"
    weight: "pd.Series[float]"


@dataclass(frozen=True)
class DownsampleRates:
    """Keeps one in `unrewarded` rows without a reward, and one in `rewarded` rows with one."""

    unrewarded: int = 1
    rewarded: int = 1

    @classmethod
    def for_at_most(cls, rows: int, part: FramePart) -> Self:
        """Rates that keep at most `rows` rows of the part with a reward, and as many without."""
        return cls(unrewarded=ceil((part.rows - part.rewards) / rows), rewarded=ceil(part.rewards / rows))


@dataclass(frozen=True)
class Recipe:
    """What all fits of one training share. Small, because it is sent to every worker."""

    settings: Settings
    encoder: Encoder
    reward: Reward
    reward_rate: float  # of the training part: the score that boosting starts from
    maximum_rounds: int
    seed: int
    out_of_fold: tuple[Encoder, ...] = ()  # by fold: the encoder for training rows of that fold
    encoder_partitions: frozenset[str] = frozenset()  # keys of the partitions that the encoders were fitted on
    constraints: Training = field(default_factory=Training)
    negatives_kept: float = 1.0

    def load(self, ref: ObjectRef, rates: DownsampleRates = DownsampleRates()) -> Rows:
        """A partition of the training frame, downsampled and encoded; no encoding of a row contains its own reward."""
        rows = read_partition(Store(self.settings), ref)
        kept, represented = downsample(rows[self.reward].to_numpy(dtype=np.float32), rates)
        rows = rows.iloc[kept]
        reward = rows[self.reward].astype(np.float32)
        weights = represented * sampling_weight(reward.to_numpy(), self.negatives_kept)
        return Rows(self._encode(rows, ref.key), reward, pd.Series(weights, index=rows.index, dtype=np.float32))

    def _encode(self, rows: pd.DataFrame, key: str) -> pd.DataFrame:
        is_fitted_on = self.out_of_fold and key in self.encoder_partitions
        return encode_out_of_fold(self.out_of_fold, rows) if is_fitted_on else self.encoder.encode(rows)

    def select(self, columns: Sequence[str]) -> Self:
        """The recipe of a model that reads only these columns of the encoder."""
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
            "seed_per_iteration": True,  # so that a round's draws do not depend on the rounds before it
            "device": self.settings.device,
        }
        return fixed | constraint_parameters(self.encoder, self.constraints) | parameters


def downsample(reward: NDArray[Any], rates: DownsampleRates) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """The positions of the kept rows, ascending, and how many rows each one represents.

    Rewards are scarce, so they are kept first: He et al. 2014, "Practical Lessons from Predicting Clicks on Ads at
    Facebook", section 6.3. The weights preserve the reward rate and the meaning of parameters like min_child_weight.
    """
    is_rewarded = reward > 0
    rewarded, unrewarded = np.flatnonzero(is_rewarded), np.flatnonzero(~is_rewarded)
    kept = np.sort(np.r_[unrewarded[:: rates.unrewarded], rewarded[:: rates.rewarded]])
    return kept, np.where(is_rewarded[kept], rates.rewarded, rates.unrewarded).astype(np.float32)


def quantile_matrix(
    recipe: Recipe,
    parts: Iterable[Rows],
    threads: int,
    ref: xgboost.DMatrix | None = None,
    cache_folder: str | None = None,
) -> xgboost.DMatrix:
    """The binned rows, in the bins of `ref` if given.

    Args:
        parts: iterated three times, one part in memory at a time; every pass must yield the same rows.
        cache_folder: the folder for files of bins; None keeps them in memory.
    """
    options = {"max_bin": BINS, "enable_categorical": True, "nthread": threads, "ref": ref}
    if cache_folder is None:
        return xgboost.QuantileDMatrix(_Batches(recipe, parts), **options)
    return xgboost.ExtMemQuantileDMatrix(_Batches(recipe, parts, f"{cache_folder}/bins"), **options)


def boost(
    recipe: Recipe,
    parameters: Parameters,
    dtrain: xgboost.DMatrix,
    dvalid: xgboost.DMatrix,
    *,
    resume_from: bytes | None = None,
    after_round: AfterRound | None = None,
) -> xgboost.Booster:
    """Grow trees until the log loss on `dvalid` stops improving for `STOP_AFTER_ROUNDS` rounds.

    Not by `xgboost.train`, which counts the rounds of a continued training from 0 and forgets the best one.

    Args:
        resume_from: the booster of the same fit after any of its rounds (UBJSON); the result is as if uninterrupted.
        after_round: called with the booster and its log loss after each round but the last; True ends the fit.
    """
    options = recipe.train_options(parameters)
    booster = xgboost.Booster(options, [dtrain, dvalid], model_file=bytearray(resume_from) if resume_from else None)
    for number in range(booster.num_boosted_rounds(), recipe.maximum_rounds):
        booster.load_config(booster.save_config())  # resets the column sampler, whose state no checkpoint holds
        booster.update(dtrain, number)
        log_loss = float(booster.eval(dvalid).rpartition(":")[2])
        if number == 0 or log_loss < booster.best_score:
            booster.set_attr(best_iteration=str(number), best_score=repr(log_loss))
        elif number - booster.best_iteration >= STOP_AFTER_ROUNDS:
            break
        if after_round and after_round(booster, log_loss):
            break
    return booster


class _Batches(xgboost.DataIter):
    """Feeds XGBoost one part after the other."""

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
