"""The policy that a model implies.

It chooses the ad with the highest predicted reward (ties share the probability), and with a small probability any ad,
so that its log supports learning and evaluating other policies.
"""

import numpy as np
from numpy.typing import NDArray

from liftloop.decisions.candidates import Chunk
from liftloop.stats.columns import Floats

EXPLORATION_SHARE = 0.05  # of decisions, spread evenly over the competing ads


def policy_probabilities(scores: Floats, chunk: Chunk) -> Floats:
    """P(ad | impression) under the policy, shape (expanded rows,); sums to 1 over the ads of an impression."""
    is_best = scores == chunk.spread(np.maximum.reduceat(scores, chunk.starts))
    greedy: Floats = is_best / chunk.spread(chunk.sums(is_best.astype(np.float64)))
    return (1 - EXPLORATION_SHARE) * greedy + EXPLORATION_SHARE / chunk.spread(chunk.counts)


def draw_ads(probability: Floats, chunk: Chunk, rng: np.random.Generator) -> NDArray[np.intp]:
    """One expanded row per impression: where the running sum of probabilities, 1 per impression, passes a draw."""
    drawn = np.searchsorted(np.cumsum(probability), np.arange(len(chunk.counts)) + rng.random(len(chunk.counts)))
    return np.clip(drawn, chunk.starts, chunk.starts + chunk.counts - 1)  # rounding may pick a neighbour's ad
