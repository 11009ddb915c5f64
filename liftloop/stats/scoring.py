"""How good predicted probabilities are: log loss, normalized entropy, ranking, calibration."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlog1py, xlogy

from liftloop.stats.columns import PROBABILITY_FLOOR, Floats, binary, column, ranks, require_same_length, shares


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Rows with similar predictions: their mean prediction and mean reward."""

    rows: float  # or the sum of their weights
    mean_probability: float
    mean_reward: float


def log_loss_per_row(reward: ArrayLike, probability: ArrayLike) -> Floats:
    """Cross-entropy of each row in nats, shape (rows,); `reward` in [0, 1], probabilities clipped at 1e-12.

    Raises:
        ValueError: lengths differ, no rows, or a value outside [0, 1].
    """
    reward, probability = _scored(reward, probability)
    clipped = np.clip(probability, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    return np.asarray(-xlogy(reward, clipped) - xlog1py(1 - reward, -clipped), dtype=np.float64)


def log_loss(reward: ArrayLike, probability: ArrayLike) -> float:
    """Mean cross-entropy in nats."""
    return float(log_loss_per_row(reward, probability).mean())


def normalized_entropy(reward: ArrayLike, probability: ArrayLike) -> float:
    """Log loss over the entropy of the mean reward: 1 is no better than the constant, 0 is perfect.

    He et al. 2014, "Practical Lessons from Predicting Clicks on Ads at Facebook", section 2.

    Raises:
        ValueError: no reward or nothing but rewards, where that entropy is 0.
    """
    reward, probability = _scored(reward, probability)
    rate = reward.mean()
    if rate in (0, 1):
        raise ValueError(f"reward: all {reward.size} rows are {rate:g}, so their entropy is 0; score more rows")
    return log_loss(reward, probability) / log_loss(reward, np.full_like(reward, rate))


def area_under_roc(reward: ArrayLike, score: ArrayLike) -> float:
    """Chance that a rewarded row outscores an unrewarded one, ties counting half (Mann-Whitney).

    Raises:
        ValueError: rewards other than 0 and 1, or only one of them.
    """
    reward, score = binary("reward", reward), column("score", score)
    require_same_length(reward=reward, score=score)
    positives = reward.sum()
    rank_sum = ranks(score)[reward == 1].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / (positives * (reward.size - positives)))


def calibration_ratio(reward: ArrayLike, probability: ArrayLike) -> float:
    """Predicted over observed rewards: above 1 the model overpredicts.

    Raises:
        ValueError: no reward was observed.
    """
    reward, probability = _scored(reward, probability)
    if reward.sum() == 0:
        raise ValueError(f"reward: all {reward.size} rows are 0, so the ratio is undefined; score more rows")
    return float(probability.sum() / reward.sum())


def expected_calibration_error(reward: ArrayLike, probability: ArrayLike, bins: int = 10) -> float:
    """Mean distance between predicted and observed rate over equal-mass bins, weighted by rows.

    Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning".
    """
    table = reliability_table(reward, probability, bins)
    gaps = [each.rows * abs(each.mean_probability - each.mean_reward) for each in table]
    return sum(gaps) / sum(each.rows for each in table)


def reliability_table(
    reward: ArrayLike, probability: ArrayLike, bins: int = 10, weight: ArrayLike | None = None
) -> list[ReliabilityBin]:
    """Equal-mass bins by rising prediction; equal predictions share a bin, so there may be fewer than `bins`.

    Args:
        weight: how many rows each row represents; None: one each.

    Raises:
        ValueError: as `log_loss_per_row`, or `bins` below 1.
    """
    reward, probability = _scored(reward, probability)
    weight = np.ones_like(reward) if weight is None else column("weight", weight)
    bin_of_row = mass_bins(probability, bins, weight)
    mass, predicted, observed = (
        np.bincount(bin_of_row, weights=values) for values in (weight, weight * probability, weight * reward)
    )
    columns = (mass, predicted / mass, observed / mass)
    return [ReliabilityBin(*each) for each in zip(*map(np.ndarray.tolist, columns), strict=True)]


def mass_bins(probability: Floats, bins: int, weight: Floats) -> NDArray[np.intp]:
    """The equal-mass bin of each row, shape (rows,), numbered from 0 by rising prediction and none empty.

    Raises:
        ValueError: `bins` below 1.
    """
    if bins < 1:
        raise ValueError(f"bins={bins}: at least 1 is needed")
    _, level_of_row = np.unique(probability, return_inverse=True)
    mass = np.bincount(level_of_row, weights=weight)
    position = (np.cumsum(mass) - mass / 2) / mass.sum()  # of each prediction, in (0, 1)
    return np.asarray(np.unique((position * bins).astype(np.intp)[level_of_row], return_inverse=True)[1])


def sampling_weight(reward: ArrayLike, negatives_kept: float) -> Floats:
    """How many impressions of the full traffic each row represents, where the log dropped some without a reward.

    He et al. 2014, as above, section 6.3: models trained with these weights predict the full traffic's probabilities.
    """
    return np.where(np.asarray(reward) > 0, 1.0, 1 / negatives_kept)


def _scored(reward: ArrayLike, probability: ArrayLike) -> tuple[Floats, Floats]:
    rewards, probabilities = shares("reward", reward), shares("probability", probability)
    require_same_length(reward=rewards, probability=probabilities)
    return rewards, probabilities
