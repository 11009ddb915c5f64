"""Checks of parts of the hold-out: every value of a column is one test, and Holm's correction counts them all."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liftloop.evaluation.rewards import Outcomes
from liftloop.gate.verdict import CheckVerdict, Finding
from liftloop.stats.columns import Floats
from liftloop.stats.interval import Interval
from liftloop.stats.multiple import holm
from liftloop.stats.slices import LogRatios, log_ratios

MINIMUM_SLICE_REWARDS = 30  # below, a slice's normalized entropy is mostly noise
NAMED = 5  # of the slices that fail
QUESTIONS = 2  # asked of every column in `slices`, each with its share of the chance of error


def worst_slice(outcomes: Outcomes, probability: Floats, values: "pd.Series[str]") -> Finding:
    """Normalized entropy, against its own mean rate, of each slice with enough rewards.

    Fail if that of any is surely above the contract's limit after Holm's correction, inconclusive if an estimate is.
    """
    limit = outcomes.policy.worst_slice_entropy
    entropies = entropy_ratios(outcomes, probability, values)
    if entropies is None:
        return not_enough(values, f"at most {limit:g}")
    failing = holm(entropies.p_above(limit)) <= _alpha(outcomes)
    worst = int(entropies.estimate.argmax())
    entropy = entropies.interval(worst, outcomes.policy.confidence)
    verdict: CheckVerdict = "fail" if failing.any() else "inconclusive" if entropy.estimate > limit else "pass"
    reason = (
        f"Of {len(entropies.names)} values of {values.name}, {entropies.names[worst]} is predicted worst; 1 is no"
        f" better than its own rate. {_failures(entropies, failing, f'above {limit:g}')}"
    )
    return Finding(verdict, reason, f"{entropy:.3f}", f"at most {limit:g}", {"normalized_entropy": entropy})


def slices_are_calibrated(outcomes: Outcomes, probability: Floats, values: "pd.Series[str]") -> Finding:
    """Predicted over observed rewards of each slice where enough came or were promised.

    Fail if that of any is surely outside the contract's bounds after Holm's correction, inconclusive if it would be on
    its own: among many slices with few rewards, some estimate is always far off.
    """
    low, high = outcomes.policy.slice_calibration_ratio
    ratios = calibration_ratios(outcomes, probability, values)
    if ratios is None:
        return not_enough(values, f"{low:g} to {high:g}")
    either = np.minimum(1, 2 * np.minimum(ratios.p_above(high), ratios.p_below(low)))
    failing = holm(either) <= _alpha(outcomes)
    furthest = int(np.abs(ratios.estimate).argmax())
    ratio = ratios.interval(furthest, outcomes.policy.confidence)
    verdict = guarded(either, failing, outcomes.policy.confidence)
    reason = (
        f"Of {len(ratios.names)} values of {values.name}, {ratios.names[furthest]} is promised {ratio.estimate:.2f}"
        f" times what came, which is furthest off. {_failures(ratios, failing, f'outside {low:g} to {high:g}')}"
    )
    return Finding(verdict, reason, f"{ratio:.3f}", f"{low:g} to {high:g}", {"calibration_ratio": ratio})


def entropy_ratios(outcomes: Outcomes, probability: Floats, values: "pd.Series[str]") -> LogRatios | None:
    """Log loss over that of each slice's own mean rate, for slices with enough rewards; None: there are none."""
    labels = labelled(values)
    total = _slice_sums(labels, rewards=outcomes.reward, rows=np.ones_like(probability), weight=outcomes.weight)
    is_enough = (total["rewards"] >= MINIMUM_SLICE_REWARDS) & (total["rewards"] < total["rows"])
    is_judged = is_enough.to_numpy() & _has_blocks(labels, outcomes)
    if not is_judged.any():
        return None
    judged, own_rate = outcomes.where(is_judged), (total["rewards"] / total["weight"])[is_judged].to_numpy()
    losses = judged.losses(probability[is_judged]), judged.losses(own_rate)
    return log_ratios(*losses, labels[is_judged], judged.blocks)


def calibration_ratios(outcomes: Outcomes, probability: Floats, values: "pd.Series[str]") -> LogRatios | None:
    """Predicted over observed rewards of slices where enough were observed, or promised; None: there are none.

    A slice whose promises brought nothing at all counts as if half a reward had come.
    """
    labels = labelled(values)
    predicted = outcomes.weight * probability
    total = _slice_sums(labels, rewards=outcomes.reward, promised=predicted, rows=np.ones_like(predicted))
    is_enough = total[["rewards", "promised"]].max(axis="columns") >= MINIMUM_SLICE_REWARDS
    is_judged = is_enough.to_numpy() & _has_blocks(labels, outcomes)
    if not is_judged.any():
        return None
    observed = outcomes.reward + ((0.5 - total["rewards"]).clip(lower=0) / total["rows"]).to_numpy()
    return log_ratios(predicted[is_judged], observed[is_judged], labels[is_judged], outcomes.blocks[is_judged])


def slice_entropies(outcomes: Outcomes, probability: Floats, values: "pd.Series[str]") -> dict[str, float]:
    """Normalized entropy by value, for values with enough rewards."""
    ratios = entropy_ratios(outcomes, probability, values)
    return {} if ratios is None else dict(zip(ratios.names, np.exp(ratios.estimate).tolist(), strict=True))


def slice_interval(outcomes: Outcomes, probability: Floats, values: "pd.Series[str]", value: str) -> Interval:
    """Normalized entropy of one slice."""
    is_member = labelled(values) == value
    return outcomes.where(is_member).score(probability[is_member]).normalized_entropy


def labelled(values: "pd.Series[str]") -> NDArray[np.object_]:
    """The values as text, shape (rows,); rows without one are a slice like any other."""
    return np.asarray(values.astype(object).where(values.notna(), "missing").astype(str), dtype=object)


def listed(names: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    shown, more = names[:NAMED], len(names) - NAMED
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def guarded(p_values: Floats, failing: NDArray[np.bool_], confidence: float) -> CheckVerdict:
    """Fail if any fails, inconclusive if one is sure on its own but not among so many, else pass."""
    is_sure_alone = (p_values <= 1 - confidence).any()
    return "fail" if failing.any() else "inconclusive" if is_sure_alone else "pass"


def not_enough(values: "pd.Series[str]", threshold: str, needed: str = "No value") -> Finding:
    reason = f"{needed} of {values.name} has {MINIMUM_SLICE_REWARDS} rewards or more."
    return Finding("not_applicable", reason, threshold=threshold)


def _failures(ratios: LogRatios, failing: NDArray[np.bool_], where: str) -> str:
    """Which slices fail, the furthest first, by name and ratio."""
    if not failing.any():
        return f"None is surely {where}, after Holm's correction."
    found = sorted(np.flatnonzero(failing), key=lambda position: -abs(ratios.estimate[position]))
    named = listed([f"{ratios.names[position]} ({np.exp(ratios.estimate[position]):.2f})" for position in found])
    return f"Surely {where}, after Holm's correction: {named}."


def _alpha(outcomes: Outcomes) -> float:
    """The chance of error of one question about one column: those of all slice checks add up to the contract's."""
    policy = outcomes.policy
    return (1 - policy.confidence) / (QUESTIONS * len(policy.slices))


def _has_blocks(labels: NDArray[np.object_], outcomes: Outcomes) -> NDArray[np.bool_]:
    """Whether a row's slice has rows of two blocks, shape (rows,): a single one says nothing of its own error."""
    return np.asarray(pd.Series(outcomes.blocks).groupby(labels).transform("nunique") > 1)


def _slice_sums(labels: NDArray[np.object_], **columns: Floats) -> pd.DataFrame:
    """The sum of each column over a row's slice, one row per row."""
    return pd.DataFrame(columns).groupby(labels).transform("sum")
