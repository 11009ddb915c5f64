"""Whether a log overlaps enough with another policy's decisions for its off-policy value to be trustworthy."""

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
    represented_rows,
    weighted_mean,
)


@dataclass(frozen=True, slots=True)
class Overlap:
    """Diagnostics of importance weights, after Owen 2013, "Monte Carlo theory, methods and examples", section 9.3."""

    effective_sample_size: float  # of the weights, unclipped
    mean_weight: Interval  # 1 in expectation, if propensities are correct and every choice could be logged
    clipped_share: float  # of rows
    largest_reward_share: float  # of a single row in the sum of weighted rewards


def overlap(feedback: LoggedFeedback, max_weight: float, **options: Unpack[BootstrapOptions]) -> Overlap:
    """Diagnostics of the weights of these rows, which apply to every off-policy value from them."""
    weights = importance_weights(feedback)
    return Overlap(
        effective_sample_size=effective_sample_size(weights, represented_rows(feedback)),
        mean_weight=weighted_mean(feedback, weights, **options),
        clipped_share=clipped_share(feedback, max_weight),
        largest_reward_share=_largest_share(importance_weights(feedback, max_weight) * np.abs(feedback.reward)),
    )


def _largest_share(parts: Floats) -> float:
    """The largest part's share of the sum; 1 (the worst case) if the sum is 0."""
    return float(parts.max() / parts.sum()) if parts.any() else 1.0
