"""Fairness: what the model does for each value of the columns that the contract declares as groups."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liftloop.evaluation.rewards import Outcomes
from liftloop.gate.checks.slices import (
    MINIMUM_SLICE_REWARDS,
    calibration_ratios,
    entropy_ratios,
    guarded,
    labelled,
    listed,
    not_enough,
)
from liftloop.gate.verdict import Finding, GroupRow
from liftloop.stats.columns import Floats
from liftloop.stats.interval import Interval
from liftloop.stats.multiple import holm
from liftloop.stats.slices import LogRatios, one_sided, sums_error

LARGEST = 50  # of a column's values, that the table shows


def groups_are_alike(outcomes: Outcomes, probability: Floats, values: "pd.Series[str]") -> Finding:
    """Calibration within groups: no group may be promised more, or less, of what comes to it than another.

    Kleinberg, Mullainathan & Raghavan 2017, "Inherent Trade-Offs in the Fair Determination of Risk Scores". Fail if a
    pair's calibration ratios are surely further apart than the contract's spread, after Holm's correction over all
    pairs; inconclusive if one pair's would be on its own.
    """
    limit = outcomes.policy.group_calibration_spread
    ratios = calibration_ratios(outcomes, probability, values)
    if ratios is None or len(ratios.names) < 2:
        return not_enough(values, f"at most {limit:g}", needed="One value or none")
    distance, p_values, pairs = _pairs(ratios, float(np.log(limit)))
    failing = holm(p_values) <= (1 - outcomes.policy.confidence) / len(outcomes.policy.groups)
    verdict = guarded(p_values, failing, outcomes.policy.confidence)
    most, least = pairs[int(distance.argmax())]
    spread = float(np.exp(distance.max()))
    reason = f"For each reward that comes, {values.name} {most} is promised {spread:.2f} times what {least} is."
    if failing.any():
        named = listed([" over ".join(pairs[position]) for position in np.flatnonzero(failing)])
        reason += f" Surely above {limit:g}, after Holm's correction over {len(pairs)} pairs: {named}."
    return Finding(verdict, reason, f"{spread:.2f}", f"at most {limit:g}", figures={"group_calibration_spread": spread})


def group_table(
    outcomes: Outcomes, probability: Floats, values: "pd.Series[str]", kept: "pd.Series[float] | None" = None
) -> tuple[GroupRow, ...]:
    """One row for each of the largest values, those first; figures that need rewards only where there are enough.

    Args:
        kept: P(logged ad) under the model's policy of some of the rows, by their position; None: not known.
    """
    labels = labelled(values)
    confidence = outcomes.policy.confidence
    ratios = _intervals(calibration_ratios(outcomes, probability, values), confidence)
    entropies = _intervals(entropy_ratios(outcomes, probability, values), confidence)
    others = {} if kept is None else (1 - kept.groupby(labels[kept.index]).mean()).to_dict()
    return tuple(
        GroupRow(
            column=str(values.name),
            value=value,
            impressions=len(group.reward),
            rewards=group.rewards,
            calibration_ratio=ratios.get(value),
            calibration_error=_error(group, probability[labels == value]),
            normalized_entropy=entropies.get(value),
            chosen_otherwise=others.get(value),
        )
        for value, group in _members(outcomes, labels)
    )


def _members(outcomes: Outcomes, labels: NDArray[np.object_]) -> Iterator[tuple[str, Outcomes]]:
    """Each value with its outcomes, the largest first."""
    for value, _ in Counter(sorted(labels)).most_common(LARGEST):
        yield value, outcomes.where(labels == value)


def _error(group: Outcomes, probability: Floats) -> Interval | None:
    return group.calibration_error(probability) if group.rewards >= MINIMUM_SLICE_REWARDS else None


def _pairs(ratios: LogRatios, log_limit: float) -> tuple[Floats, Floats, list[tuple[str, str]]]:
    """For each ordered pair: the logarithm of one ratio over the other, its p-value of being within the limit, names.

    By the covariance of the two, for one block may be in both groups.
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
    """By name; only where there are two blocks to draw one from."""
    if ratios is None:
        return {}
    judged = np.flatnonzero(ratios.blocks > 1)
    return {ratios.names[position]: ratios.interval(int(position), confidence) for position in judged}
