"""What another policy would have earned, estimated from logged impressions and their propensities.

All estimators require that every ad the target policy may choose had a propensity above 0, and that rewards depend on
context and ad alone. Check the overlap first (`liftloop.stats.overlap`): where it is poor, even a narrow interval is
not reliable.
"""

from dataclasses import dataclass, fields
from typing import Unpack

import numpy as np
from numpy.typing import ArrayLike

from liftloop.stats.columns import Floats, column, require, require_same_length, shares
from liftloop.stats.interval import BootstrapOptions, Interval, bootstrap_ratio


@dataclass(frozen=True, eq=False)
class LoggedFeedback:
    """One row per logged impression, each array of shape (rows,); `doubly_robust_value` needs the model's two.

    Raises:
        ValueError: lengths differ, a value is not finite, or a probability is outside its range.
    """

    reward: Floats  # of the logged ad, in any unit
    propensity: Floats  # P(logged ad | context) under the policy that served it, in (0, 1]
    target_probability: Floats  # P(logged ad | context) under the policy to be valued, in [0, 1]
    model_reward: Floats | None = None  # q(x, a): what the model expects of the logged ad
    model_target_reward: Floats | None = None  # sum over ads of pi(a | x) q(x, a): what it expects of the target policy
    row_weight: Floats | None = None  # how many rows each row represents, where the log was downsampled; None: 1

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        checked = {name: column(name, values) for name, values in given.items() if values is not None}
        require_same_length(**checked)
        if self.row_weight is not None:
            require("row_weight", checked["row_weight"], checked["row_weight"] > 0, "above 0")
        require("propensity", checked["propensity"], checked["propensity"] > 0, "above 0")
        for name in ("propensity", "target_probability"):
            shares(name, checked[name])
        for name, values in checked.items():
            object.__setattr__(self, name, values)


def importance_weights(feedback: LoggedFeedback, max_weight: float | None = None) -> Floats:
    """Target probability over propensity, shape (rows,), cut at `max_weight`: some bias for less variance.

    Raises:
        ValueError: `max_weight` is not above 0.
    """
    if max_weight is not None and not max_weight > 0:
        raise ValueError(f"max_weight={max_weight}: must be above 0, or None for no clipping")
    weights = feedback.target_probability / feedback.propensity
    return weights if max_weight is None else np.minimum(weights, max_weight)


def clipped_share(feedback: LoggedFeedback, max_weight: float | None) -> float:
    """Share of rows whose weight exceeds `max_weight`, to be reported with every clipped value."""
    is_clipped = importance_weights(feedback) > importance_weights(feedback, max_weight)
    return float(np.average(is_clipped, weights=represented_rows(feedback)))


def effective_sample_size(weights: ArrayLike, rows: ArrayLike | None = None) -> float:
    """The number of equally weighted rows with the same information, between 0 and rows (Kish 1965; for importance
    weights Kong 1992, "A Note on Importance Sampling using Standardized Weights").

    Args:
        rows: how many rows of the full log each row represents; None: one each. The size is that of the full log.
    """
    weights = column("weights", weights)
    require("weights", weights, weights >= 0, "0 or more")
    rows = np.ones_like(weights) if rows is None else column("rows", rows)
    return float((rows @ weights) ** 2 / (rows @ np.square(weights))) if weights.any() else 0.0


def inverse_propensity_value(
    feedback: LoggedFeedback, *, max_weight: float | None = None, **options: Unpack[BootstrapOptions]
) -> Interval:
    """Mean weighted reward (Horvitz & Thompson 1952): unbiased without clipping, and noisy."""
    return weighted_mean(feedback, importance_weights(feedback, max_weight) * feedback.reward, **options)


def self_normalized_value(
    feedback: LoggedFeedback, *, max_weight: float | None = None, **options: Unpack[BootstrapOptions]
) -> Interval:
    """Weighted rewards over weights (SNIPS; Swaminathan & Joachims 2015), never outside the range of the rewards.

    Raises:
        ValueError: the target policy gives every logged ad probability 0.
    """
    weights = importance_weights(feedback, max_weight) * represented_rows(feedback)
    return bootstrap_ratio(weights * feedback.reward, weights, **options)


def doubly_robust_value(
    feedback: LoggedFeedback, *, max_weight: float | None = None, **options: Unpack[BootstrapOptions]
) -> Interval:
    """The model's value of the target policy, corrected by its weighted errors on the logged ads (Dudik et al. 2011).

    Unbiased if either the propensities or the model are correct; the model must not be trained on these rows.

    Raises:
        ValueError: `feedback` lacks one of the model's two columns.
    """
    return weighted_mean(feedback, doubly_robust(feedback, importance_weights(feedback, max_weight)), **options)


def switch_doubly_robust_value(
    feedback: LoggedFeedback, *, max_weight: float, **options: Unpack[BootstrapOptions]
) -> Interval:
    """Doubly robust where the weight is at most `max_weight`, the model alone beyond (Wang et al. 2017, "Optimal and
    Adaptive Off-policy Evaluation in Contextual Bandits").

    Raises:
        ValueError: `feedback` lacks one of the model's two columns, or `max_weight` is not above 0.
    """
    is_trusted = importance_weights(feedback) <= importance_weights(feedback, max_weight)
    return weighted_mean(feedback, doubly_robust(feedback, importance_weights(feedback) * is_trusted), **options)


def weighted_mean(feedback: LoggedFeedback, values: Floats, **options: Unpack[BootstrapOptions]) -> Interval:
    """Mean of a value per row, weighted by `row_weight`."""
    rows = represented_rows(feedback)
    return bootstrap_ratio(values * rows, rows, **options)


def represented_rows(feedback: LoggedFeedback) -> Floats:
    """How many rows of the full log each row represents, shape (rows,)."""
    return np.ones_like(feedback.reward) if feedback.row_weight is None else feedback.row_weight


def doubly_robust(feedback: LoggedFeedback, weights: Floats) -> Floats:
    """The value of each row, shape (rows,): the model's, corrected by its weighted error on the logged ad."""
    if feedback.model_reward is None or feedback.model_target_reward is None:
        raise ValueError("doubly robust needs model_reward and model_target_reward; give both to LoggedFeedback")
    return feedback.model_target_reward + weights * (feedback.reward - feedback.model_reward)
