"""Whether a log tells enough about another policy's decisions for an off-policy value to be trusted."""

from dataclasses import dataclass
from typing import Unpack

import numpy as np

from liftloop.stats.columns import Floats
from liftloop.stats.interval import BootstrapOptions, Interval
from liftloop.stats.off_policy import (
    LoggedFeedback,
    clipped_share,
    effective_sample_size,
    importance_weights,
    weighted_mean,
)


@dataclass(frozen=True, slots=True)
class Overlap:
    """Diagnostics of importance weights, after Owen 2013, "Monte Carlo theory, methods and examples", section 9.3."""

    effective_sample_size: float  # of the weights, unclipped
    mean_weight: Interval  # 1 in expectation, if propensities are true and every choice may have been logged
    clipped_share: float  # of rows
    largest_reward_share: float  # of the sum of weighted rewards, by one row: a value may hang on that alone


def overlap(feedback: LoggedFeedback, max_weight: float, **options: Unpack[BootstrapOptions]) -> Overlap:
    """What the weights of these rows say of any value that is drawn from them."""
    weights = importance_weights(feedback)
    return Overlap(
        effective_sample_size=effective_sample_size(weights),
        mean_weight=weighted_mean(feedback, weights, **options),
        clipped_share=clipped_share(feedback, max_weight),
        largest_reward_share=_largest_share(importance_weights(feedback, max_weight) * np.abs(feedback.reward)),
    )


def _largest_share(parts: Floats) -> float:
    """Of the sum, by the largest part; 1 where there is nothing, for nothing is known either."""
    return float(parts.max() / parts.sum()) if parts.any() else 1.0
