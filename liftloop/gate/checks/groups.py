"""Fairness checks: how the model treats each value of the columns that the contract declares as groups."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liftloop.evaluation.rewards import RewardSample
from liftloop.gate.checks.slices import (
    MINIMUM_SLICE_REWARDS,
    as_labels,
    calibration_ratios,
    entropy_ratios,
    listed,
    too_few_rewards,
    verdict_of,
)
from liftloop.gate.verdict import Check, GroupRow
from liftloop.stats.columns import Floats
from liftloop.stats.interval import Interval
from liftloop.stats.multiple import holm
from liftloop.stats.slices import LogRatios, one_sided, sums_error

LARGEST = 50  # number of values of a column that the table shows


def check_groups(sample: RewardSample, probability: Floats, values: "pd.Series[str]") -> Check:
    """Calibration within groups: the ratio of predicted to observed rewards must be similar in all groups.

    Kleinberg, Mullainathan & Raghavan 2017, "Inherent Trade-Offs in the Fair Determination of Risk Scores". Fail if
    two groups' calibration ratios differ significantly by more than the contract's spread, after Holm's correction over
    all pairs; inconclusive if a pair is significant only without the correction.
    """
    limit = sample.policy.group_calibration_spread
    ratios = calibration_ratios(sample, probability, values)
    if ratios is None or len(ratios.names) < 2:
        return too_few_rewards(values, f"at most {limit:g}", needed="Fewer than two values")
    distance, p_values, pairs = _pairs(ratios, float(np.log(limit)))
    failing = holm(p_values) <= (1 - sample.policy.confidence) / len(sample.policy.groups)
    verdict = verdict_of(p_values, failing, sample.policy.confidence)
    most, least = pairs[int(distance.argmax())]
    spread = float(np.exp(distance.max()))
    reason = f"Calibration ratio of {values.name} {most} is {spread:.2f}× that of {least}."
    if failing.any():
        named = listed([" over ".join(pairs[position]) for position in np.flatnonzero(failing)])
        reason += f" Significantly above {limit:g} (Holm's correction over {len(pairs)} pairs): {named}."
    return Check(verdict, reason, f"{spread:.2f}", f"at most {limit:g}", figures={"group_calibration_spread": spread})


def group_table(
    sample: RewardSample,
    probability: Floats,
    values: "pd.Series[str]",
    policy_probability: "pd.Series[float] | None" = None,
) -> tuple[GroupRow, ...]:
    """One row for each of the largest values, largest first; figures are None where there are too few rewards.

    Args:
        policy_probability: P(logged ad) under the model's policy, by position, for some of the rows; None: unknown.
    """
    labels = as_labels(values)
    confidence = sample.policy.confidence
    ratios = _intervals(calibration_ratios(sample, probability, values), confidence)
    entropies = _intervals(entropy_ratios(sample, probability, values), confidence)
    disagreement = _disagreement(policy_probability, labels, sample.weight)
    return tuple(
        GroupRow(
            column=str(values.name),
            value=value,
            impressions=len(group.reward),
            rewards=group.rewards,
            calibration_ratio=ratios.get(value),
            calibration_error=_error(group, probability[labels == value]),
            normalized_entropy=entropies.get(value),
            policy_disagreement=disagreement.get(value),
        )
        for value, group in _members(sample, labels)
    )


def _disagreement(
    policy_probability: "pd.Series[float] | None", labels: NDArray[np.object_], weight: Floats
) -> dict[str, float]:
    """By value, how often the policy chooses another ad than the log; empty if that is unknown."""
    if policy_probability is None:
        return {}
    rows = pd.Series(weight[policy_probability.index], index=policy_probability.index)
    label = labels[policy_probability.index]
    agreement = (policy_probability * rows).groupby(label).sum() / rows.groupby(label).sum()
    return {str(value): 1 - share for value, share in agreement.items()}


def _members(sample: RewardSample, labels: NDArray[np.object_]) -> Iterator[tuple[str, RewardSample]]:
    """Each value with its sample, the largest first."""
    for value, _ in Counter(sorted(labels)).most_common(LARGEST):
        yield value, sample.where(labels == value)


def _error(group: RewardSample, probability: Floats) -> Interval | None:
    return group.calibration_error(probability) if group.rewards >= MINIMUM_SLICE_REWARDS else None


def _pairs(ratios: LogRatios, log_limit: float) -> tuple[Floats, Floats, list[tuple[str, str]]]:
    """For each ordered pair: the log of one ratio over the other, the p-value of its being within the limit, names.

    Uses the covariance of the two, because one block may be in both groups.
    """
    high, low = np.nonzero(~np.eye(len(ratios.names), dtype=bool))
    distance = ratios.estimate[high] - ratios.estimate[low]
    standard_error = sums_error(ratios.influence[:, high] - ratios.influence[:, low])
    p_values = one_sided(distance - log_limit, standard_error, np.minimum(ratios.blocks[high], ratios.blocks[low]))
    return (
        distance,
        p_values,
        [(ratios.names[each], ratios.names[other]) for each, other in zip(high, low, strict=True)],
    )


def _intervals(ratios: LogRatios | None, confidence: float) -> dict[str, Interval]:
    """Interval by name, for groups with at least two blocks."""
    if ratios is None:
        return {}
    judged = np.flatnonzero(ratios.blocks > 1)
    return {ratios.names[position]: ratios.interval(int(position), confidence) for position in judged}
