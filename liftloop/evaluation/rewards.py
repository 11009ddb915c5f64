"""Matured rewards, and a model's measures on them with intervals: used by gate and evaluation."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from liftloop.contract.contract import Contract
from liftloop.contract.sections import GatePolicy
from liftloop.stats.calibration_error import calibration_error
from liftloop.stats.clustered import clustered_ratio
from liftloop.stats.columns import Floats
from liftloop.stats.interval import BootstrapOptions, Interval, bootstrap_ratio
from liftloop.stats.scoring import log_loss_per_row, sampling_weight
from liftloop.storage.frozen import Frozen

_MOST_RESAMPLES = 20_000
MINIMUM_DAYS = 6  # Student's limits on fewer are too narrow for days that differ in more than their mean


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
    days: NDArray[np.intp] | None = None  # of each row, from 0; None: one day is as good as another

    @classmethod
    def of(cls, contract: Contract, rows: pd.DataFrame, reward: Floats) -> "RewardSample":
        """The rewards of these rows, which need `impression_id`, `event_timestamp` and `user_id`."""
        policy, seed, kept = contract.gate, contract.training.seed, contract.outcome.negatives_kept
        days = None if policy.exchangeable_days else _days(rows["event_timestamp"])
        return cls(reward, _blocks(rows), policy, seed, kept, days)

    @property
    def rewards(self) -> int:
        return int(self.reward.sum())

    @property
    def has_both(self) -> bool:
        """Whether there are rows with a reward and rows without."""
        return bool(0 < self.reward.sum() < len(self.reward))

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

    @property
    def has_few_days(self) -> bool:
        """Whether there are too few days to tell a difference between models from one between days."""
        return self.days is not None and len(np.unique(self.days)) < MINIMUM_DAYS

    def where(self, is_selected: NDArray[np.bool_]) -> "RewardSample":
        """The sample of the selected rows; `is_selected` has shape (rows,)."""
        days = None if self.days is None else self.days[is_selected]
        return replace(self, reward=self.reward[is_selected], blocks=self.blocks[is_selected], days=days)

    def at_look(self, number: int) -> "RewardSample":
        """The sample with the confidence of one of many looks, from 1, at the same question.

        Of the error 1 - confidence, which all looks share, look k spends 1 / (k (k + 1)) on either side, so that the
        first one is as ever (alpha spending; Lan & DeMets 1983, with the sum over looks as union bound).
        """
        tail = (1 - self.policy.confidence) / (number * (number + 1))
        resamples = min(max(self.policy.resamples, round(10 / tail)), _MOST_RESAMPLES)
        policy = self.policy.model_copy(update={"confidence": 1 - 2 * tail, "resamples": resamples})
        return replace(self, policy=policy)

    def ratio(self, numerator: ArrayLike, denominator: ArrayLike, *, is_positive: bool = True) -> Interval:
        """The ratio of two sums over the rows; it knows users and days, or users alone if there are few days.

        Args:
            is_positive: whether it cannot be negative.

        Raises:
            ValueError: the denominator is 0 everywhere, or all rows are one block.
        """
        if self.days is None or self.has_few_days:
            return bootstrap_ratio(numerator, denominator, **self.options)
        clusters = {"first": self.days, "second": self.blocks}
        confidence = self.policy.confidence
        return clustered_ratio(numerator, denominator, **clusters, confidence=confidence, is_positive=is_positive)

    def score(self, probability: Floats) -> Score:
        """Log loss and normalized entropy of predictions.

        Raises:
            ValueError: no row or every row has a reward, or there are fewer than two blocks.
        """
        losses, of_mean_rate = self.losses(probability), self.losses(np.full_like(self.reward, self.mean_rate))
        return Score(log_loss=self.ratio(losses, self.weight), normalized_entropy=self.ratio(losses, of_mean_rate))

    def losses(self, probability: Floats) -> Floats:
        """Log loss of each row times its weight, in nats, shape (rows,)."""
        return self.weight * log_loss_per_row(self.reward, probability)

    def calibration_ratio(self, probability: Floats) -> Interval:
        """Predicted over observed rewards: above 1 the model overestimates."""
        return self.ratio(self.weight * probability, self.weight * self.reward)

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
        return self.ratio(baseline_loss - loss, baseline_loss, is_positive=False)


def _blocks(rows: pd.DataFrame) -> NDArray[np.intp]:
    """The block of each row, shape (rows,): the impressions of one user, or of one hour where the user is unknown."""
    hours, _ = pd.factorize(rows["event_timestamp"].dt.floor("h"))
    users, names = pd.factorize(rows["user_id"])
    return np.asarray(np.where(users >= 0, users, len(names) + hours), dtype=np.intp)


def _days(times: "pd.Series[pd.Timestamp]") -> NDArray[np.intp]:
    """The day of each row, shape (rows,): the first 24 hours from the earliest row are day 0."""
    return np.asarray((times - times.min()) // pd.Timedelta(days=1), dtype=np.intp)
