"""Checks by slice: every value of a column is one test, with Holm's correction over all of them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liftloop.evaluation.rewards import RewardSample
from liftloop.gate.verdict import Check, CheckVerdict
from liftloop.stats.columns import Floats
from liftloop.stats.interval import Interval
from liftloop.stats.multiple import holm
from liftloop.stats.slices import LogRatios, log_ratios

MINIMUM_SLICE_REWARDS = 30  # below, a slice's normalized entropy is mostly noise
NAMED = 5  # of the failing slices
QUESTIONS = 2  # checks of every column in `slices`; each gets an equal share of the error probability


def check_worst_slice(sample: RewardSample, probability: Floats, values: "pd.Series[str]") -> Check:
    """Normalized entropy, against its own mean rate, of each slice with enough rewards.

    Fail if any is significantly above the contract's limit after Holm's correction, inconclusive if an estimate is.
    """
    limit = sample.policy.worst_slice_entropy
    entropies = entropy_ratios(sample, probability, values)
    if entropies is None:
        return too_few_rewards(values, f"at most {limit:g}")
    failing = holm(entropies.p_above(limit)) <= _alpha(sample)
    worst = int(entropies.estimate.argmax())
    entropy = entropies.interval(worst, sample.policy.confidence)
    verdict: CheckVerdict = "fail" if failing.any() else "inconclusive" if entropy.estimate > limit else "pass"
    reason = (
        f"Highest normalized entropy of {len(entropies.names)} values of {values.name}: {entropies.names[worst]}"
        f" (1 = its own mean rate). {_failures(entropies, failing, f'above {limit:g}')}"
    )
    return Check(verdict, reason, f"{entropy:.3f}", f"at most {limit:g}", {"normalized_entropy": entropy})


def check_slice_calibration(sample: RewardSample, probability: Floats, values: "pd.Series[str]") -> Check:
    """Predicted over observed rewards of each slice with enough of either.

    Fail if any is significantly outside the contract's bounds after Holm's correction, inconclusive if only without
    it: among many slices with few rewards, some estimate is always far off.
    """
    low, high = sample.policy.slice_calibration_ratio
    ratios = calibration_ratios(sample, probability, values)
    if ratios is None:
        return too_few_rewards(values, f"{low:g} to {high:g}")
    either = np.minimum(1, 2 * np.minimum(ratios.p_above(high), ratios.p_below(low)))
    failing = holm(either) <= _alpha(sample)
    furthest = int(np.abs(ratios.estimate).argmax())
    ratio = ratios.interval(furthest, sample.policy.confidence)
    verdict = verdict_of(either, failing, sample.policy.confidence)
    reason = (
        f"Furthest from 1 of {len(ratios.names)} values of {values.name}: {ratios.names[furthest]}, with predicted /"
        f" observed rewards = {ratio.estimate:.2f}. {_failures(ratios, failing, f'outside {low:g} to {high:g}')}"
    )
    return Check(verdict, reason, f"{ratio:.3f}", f"{low:g} to {high:g}", {"calibration_ratio": ratio})


def entropy_ratios(sample: RewardSample, probability: Floats, values: "pd.Series[str]") -> LogRatios | None:
    """Log loss over that of each slice's own mean rate, for slices with enough rewards; None: there are none."""
    labels = as_labels(values)
    total = _slice_sums(labels, rewards=sample.reward, rows=np.ones_like(probability), weight=sample.weight)
    is_enough = (total["rewards"] >= MINIMUM_SLICE_REWARDS) & (total["rewards"] < total["rows"])
    is_judged = is_enough.to_numpy() & _has_blocks(labels, sample)
    if not is_judged.any():
        return None
    judged, own_rate = sample.where(is_judged), (total["rewards"] / total["weight"])[is_judged].to_numpy()
    losses = judged.losses(probability[is_judged]), judged.losses(own_rate)
    return log_ratios(*losses, labels[is_judged], judged.blocks)


def calibration_ratios(sample: RewardSample, probability: Floats, values: "pd.Series[str]") -> LogRatios | None:
    """Predicted over observed rewards of slices with enough of either; None: there are none.

    A slice without any reward counts as if it had half a reward.
    """
    labels = as_labels(values)
    predicted = sample.weight * probability
    total = _slice_sums(labels, rewards=sample.reward, predicted=predicted, rows=np.ones_like(predicted))
    is_enough = total[["rewards", "predicted"]].max(axis="columns") >= MINIMUM_SLICE_REWARDS
    is_judged = is_enough.to_numpy() & _has_blocks(labels, sample)
    if not is_judged.any():
        return None
    observed = sample.reward + ((0.5 - total["rewards"]).clip(lower=0) / total["rows"]).to_numpy()
    return log_ratios(predicted[is_judged], observed[is_judged], labels[is_judged], sample.blocks[is_judged])


def slice_entropies(sample: RewardSample, probability: Floats, values: "pd.Series[str]") -> dict[str, float]:
    """Normalized entropy by value, for values with enough rewards."""
    ratios = entropy_ratios(sample, probability, values)
    return {} if ratios is None else dict(zip(ratios.names, np.exp(ratios.estimate).tolist(), strict=True))


def slice_interval(sample: RewardSample, probability: Floats, values: "pd.Series[str]", value: str) -> Interval:
    """Normalized entropy of one slice."""
    is_member = as_labels(values) == value
    return sample.where(is_member).score(probability[is_member]).normalized_entropy


def as_labels(values: "pd.Series[str]") -> NDArray[np.object_]:
    """The values as text, shape (rows,); rows without a value are a slice of their own."""
    return np.asarray(values.astype(object).where(values.notna(), "missing").astype(str), dtype=object)


def listed(names: Sequence[str]) -> str:
    """The first names, and the number of the others."""
    shown, more = names[:NAMED], len(names) - NAMED
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def verdict_of(p_values: Floats, failing: NDArray[np.bool_], confidence: float) -> CheckVerdict:
    """Fail if any fails, inconclusive if one is significant only without Holm's correction, else pass."""
    is_significant_alone = (p_values <= 1 - confidence).any()
    return "fail" if failing.any() else "inconclusive" if is_significant_alone else "pass"


def too_few_rewards(values: "pd.Series[str]", threshold: str, needed: str = "No value") -> Check:
    reason = f"{needed} of {values.name} with {MINIMUM_SLICE_REWARDS} rewards or more in the hold-out."
    return Check("not_applicable", reason, threshold=threshold)


def _failures(ratios: LogRatios, failing: NDArray[np.bool_], where: str) -> str:
    """A sentence on the failing slices, the furthest first, with name and ratio."""
    if not failing.any():
        return f"None is significantly {where} (Holm's correction)."
    found = sorted(np.flatnonzero(failing), key=lambda position: -abs(ratios.estimate[position]))
    named = listed([f"{ratios.names[position]} ({np.exp(ratios.estimate[position]):.2f})" for position in found])
    return f"Significantly {where} (Holm's correction): {named}."


def _alpha(sample: RewardSample) -> float:
    """The error probability of one check of one column; all slice checks together have the contract's."""
    policy = sample.policy
    return (1 - policy.confidence) / (QUESTIONS * len(policy.slices))


def _has_blocks(labels: NDArray[np.object_], sample: RewardSample) -> NDArray[np.bool_]:
    """Whether a row's slice has at least two blocks, shape (rows,): a single one has no standard error."""
    return np.asarray(pd.Series(sample.blocks).groupby(labels).transform("nunique") > 1)


def _slice_sums(labels: NDArray[np.object_], **columns: Floats) -> pd.DataFrame:
    """The sum of each column over a row's slice, one row per row."""
    return pd.DataFrame(columns).groupby(labels).transform("sum")
