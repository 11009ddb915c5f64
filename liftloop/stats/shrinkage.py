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


def credibility_means(rows: ArrayLike, sums: ArrayLike, squares: ArrayLike, priors: ArrayLike) -> Floats:
    """Each group's mean amount, shrunk towards its prior mean as strongly as the groups' own amounts suggest.

    The empirical Bayes estimator of Bühlmann & Straub 1970, "Glaubwürdigkeit für Schadensätze", around known means:
    a prior weighs as many rows as the variance within groups is times that between them.

    Args:
        rows: number of rows of each group, at least one, shape (groups,); as the others.
        sums: of the amounts.
        squares: of the squared amounts, summed.
        priors: the mean that each group is shrunk towards.
    """
    count, total, squared, prior = (np.asarray(each, dtype=np.float64) for each in (rows, sums, squares, priors))
    if not len(count):
        return count
    means = total / count
    within = max(float((squared - total * means).sum()), 0.0) / max(float((count - 1).sum()), 1.0)
    spread = float(count @ np.square(means - prior)) - within * len(count)
    if spread <= 0:
        return prior
    strength = within * float(count.sum()) / spread
    return np.asarray((total + strength * prior) / (count + strength))
