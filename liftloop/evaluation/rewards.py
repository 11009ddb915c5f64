"""Matured rewards, and a model's measures on them with intervals: used by gate and evaluation."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from liftloop.contract.contract import Contract
from liftloop.contract.sections import GatePolicy
from liftloop.stats.calibration_error import calibration_error
from liftloop.stats.columns import Floats, column
from liftloop.stats.interval import BootstrapOptions, Interval, bootstrap_ratio
from liftloop.stats.scoring import log_loss_per_row, sampling_weight
from liftloop.storage.frozen import Frozen


class Score(Frozen):
    """How well one set of predictions fits the rewards."""

    log_loss: Interval  # nats per impression
    normalized_entropy: Interval  # 1: no better than the mean rate of the same rows


@dataclass(frozen=True)
class RewardSample:
    """Rewards of some impressions, shape (rows,), and the blocks of dependent rows."""

    reward: Floats
    blocks: NDArray[np.intp]
    policy: GatePolicy
    seed: int
    negatives_kept: float = 1.0  # share of unrewarded impressions in the log

    @classmethod
    def of(cls, contract: Contract, rows: pd.DataFrame, reward: Floats) -> "RewardSample":
        """The rewards of these rows, which need `impression_id`, `event_timestamp` and `user_id`."""
        policy, seed = contract.gate, contract.training.seed
        return cls(reward, _blocks(rows), policy, seed, contract.outcome.negatives_kept)

    @property
    def rewards(self) -> int:
        return int(self.reward.sum())

    @cached_property
    def weight(self) -> Floats:
        """Impressions that each row represents, shape (rows,): a log may hold only a sample of the unrewarded ones."""
        return sampling_weight(self.reward, self.negatives_kept)

    @property
    def mean_rate(self) -> float:
        """Rewards per impression, weighted."""
        return float(np.average(self.reward, weights=self.weight))

    @property
    def options(self) -> BootstrapOptions:
        return BootstrapOptions(
            seed=self.seed, blocks=self.blocks, resamples=self.policy.resamples, confidence=self.policy.confidence
        )

    def where(self, is_selected: NDArray[np.bool_]) -> "RewardSample":
        """The sample of the selected rows; `is_selected` has shape (rows,)."""
        return replace(self, reward=self.reward[is_selected], blocks=self.blocks[is_selected])

    def score(self, probability: Floats) -> Score:
        """Log loss and normalized entropy of predictions.

        Raises:
            ValueError: no row or every row has a reward, or there are fewer than two blocks.
        """
        losses, of_mean_rate = self.losses(probability), self.losses(np.full_like(self.reward, self.mean_rate))
        return Score(
            log_loss=bootstrap_ratio(losses, self.weight, **self.options),
            normalized_entropy=bootstrap_ratio(losses, of_mean_rate, **self.options),
        )

    def losses(self, probability: Floats) -> Floats:
        """Log loss of each row times its weight, in nats, shape (rows,)."""
        return self.weight * log_loss_per_row(self.reward, probability)

    def calibration_ratio(self, probability: Floats) -> Interval:
        """Predicted over observed rewards: above 1 the model overestimates."""
        return bootstrap_ratio(self.weight * probability, self.weight * self.reward, **self.options)

    def calibration_error(self, probability: Floats) -> Interval:
        """Debiased distance between predicted and observed rate, over the mean rate: see `calibration_error`."""
        confidence = self.policy.confidence
        error = calibration_error(
            self.reward, probability, blocks=self.blocks, weight=self.weight, confidence=confidence
        )
        return Interval(*(each / self.mean_rate for each in (error.estimate, error.low, error.high)))

    def loss_reduction(self, probability: Floats, baseline: Floats) -> Interval:
        """Relative reduction of the baseline's log loss, paired by row: above 0 the model is better."""
        loss, baseline_loss = self.losses(probability), self.losses(baseline)
        return bootstrap_ratio(baseline_loss - loss, baseline_loss, **self.options)


def _blocks(rows: pd.DataFrame) -> NDArray[np.intp]:
    """The block of each row, shape (rows,): the impressions of one user, or of one hour where no users are logged."""
    if rows["user_id"].notna().any():
        labels = rows["user_id"].fillna(rows["impression_id"])
    else:
        labels = rows["event_timestamp"].dt.floor("h")
    return np.asarray(pd.factorize(labels)[0], dtype=np.intp)


def interval_or_none(numerator: ArrayLike, denominator: ArrayLike, options: BootstrapOptions) -> Interval | None:
    """The ratio of two sums; None where the denominator is 0 or all rows are one block."""
    has_interval = column("denominator", denominator).any() and np.unique(np.asarray(options["blocks"])).size > 1
    return bootstrap_ratio(numerator, denominator, **options) if has_interval else None
