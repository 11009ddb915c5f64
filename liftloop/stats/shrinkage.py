"""Reward rates of groups, shrunk towards the mean rate because some groups are small."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import betaln

from liftloop.stats.columns import Floats

_LOG_STRENGTHS = (np.log(1), np.log(1e6))  # bounds of the prior's weight, in rows


def shrunken_rates(rows: ArrayLike, rewards: ArrayLike, rate: float, strength: float) -> Floats:
    """Each group's rate, shrunk towards the mean `rate` as if it had `strength` more rows of that rate."""
    return (np.asarray(rewards, dtype=np.float64) + strength * rate) / (np.asarray(rows, dtype=np.float64) + strength)


def prior_strength(rows: ArrayLike, rewards: ArrayLike, rate: float) -> float:
    """The strength of the beta prior around `rate` that makes the groups' counts most likely, between 1 and 1e6.

    Empirical Bayes: Casella 1985, "An Introduction to Empirical Bayes Data Analysis".
    """
    hits, misses = np.asarray(rewards, dtype=np.float64), np.asarray(rows, dtype=np.float64)
    misses = np.maximum(misses - hits, 0)

    def surprise(log_strength: float) -> float:
        prior_hits, prior_misses = rate * np.exp(log_strength), (1 - rate) * np.exp(log_strength)
        return float((betaln(prior_hits, prior_misses) - betaln(prior_hits + hits, prior_misses + misses)).sum())

    return float(np.exp(minimize_scalar(surprise, bounds=_LOG_STRENGTHS, method="bounded").x))


def smoothed_rates(counts: pd.DataFrame, rate: float) -> "pd.Series[float]":
    """Each ad's rate, shrunk towards the mean rate as strongly as the ads' own counts suggest."""
    strength = prior_strength(counts["impressions"], counts["rewards"], rate)
    return pd.Series(shrunken_rates(counts["impressions"], counts["rewards"], rate, strength), index=counts.index)
