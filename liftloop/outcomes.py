"""Matured rewards and the intervals drawn from them: what gate and evaluation measure a model by."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict

from liftloop.contract import Contract
from liftloop.contract_sections import GatePolicy
from liftloop.stats.columns import Floats, column
from liftloop.stats.interval import BootstrapOptions, Interval, bootstrap_mean, bootstrap_ratio
from liftloop.stats.scoring import log_loss_per_row


class Score(BaseModel):
    """How well one set of predictions foretold the rewards."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    log_loss: Interval  # nats per impression
    normalized_entropy: Interval  # 1 is no better than the mean rate of these very rows, known in advance


@dataclass(frozen=True)
class Outcomes:
    """Rewards of some impressions, shape (rows,), and which rows depend on each other."""

    reward: Floats
    blocks: NDArray[np.intp]
    policy: GatePolicy
    seed: int

    @classmethod
    def of(cls, contract: Contract, rows: pd.DataFrame, reward: Floats) -> "Outcomes":
        """Outcomes of these rows, which need `impression_id`, `event_timestamp` and `user_id`."""
        return cls(reward, _blocks(rows), contract.gate, contract.training.seed)

    @property
    def rewards(self) -> int:
        return int(self.reward.sum())

    @property
    def options(self) -> BootstrapOptions:
        return BootstrapOptions(
            seed=self.seed, blocks=self.blocks, resamples=self.policy.resamples, confidence=self.policy.confidence
        )

    def where(self, is_kept: NDArray[np.bool_]) -> "Outcomes":
        return Outcomes(self.reward[is_kept], self.blocks[is_kept], self.policy, self.seed)

    def score(self, probability: Floats) -> Score:
        """Log loss and normalized entropy of predictions.

        Raises:
            ValueError: no reward, nothing but rewards, or fewer than two blocks.
        """
        losses = log_loss_per_row(self.reward, probability)
        of_mean_rate = log_loss_per_row(self.reward, np.full_like(self.reward, self.reward.mean()))
        return Score(
            log_loss=bootstrap_mean(losses, **self.options),
            normalized_entropy=bootstrap_ratio(losses, of_mean_rate, **self.options),
        )

    def calibration_ratio(self, probability: Floats) -> Interval:
        """Predicted over observed rewards: above 1 the model promises too much."""
        return bootstrap_ratio(probability, self.reward, **self.options)

    def loss_saved(self, probability: Floats, rival: Floats) -> Interval:
        """Share of the rival's log loss that the model does without, row by row: above 0 the model is better."""
        loss, rival_loss = log_loss_per_row(self.reward, probability), log_loss_per_row(self.reward, rival)
        return bootstrap_ratio(rival_loss - loss, rival_loss, **self.options)


def _blocks(rows: pd.DataFrame) -> NDArray[np.intp]:
    """What is resampled together: a user's impressions where users are known, else those of one hour."""
    if rows["user_id"].notna().any():
        labels = rows["user_id"].fillna(rows["impression_id"])
    else:
        labels = rows["event_timestamp"].dt.floor("h")
    return np.asarray(pd.factorize(labels)[0], dtype=np.intp)


def interval_or_none(numerator: ArrayLike, denominator: ArrayLike, options: BootstrapOptions) -> Interval | None:
    """The ratio of two sums; None where nothing divides or all rows belong together, so that no interval can be."""
    has_interval = column("denominator", denominator).any() and np.unique(np.asarray(options["blocks"])).size > 1
    return bootstrap_ratio(numerator, denominator, **options) if has_interval else None
