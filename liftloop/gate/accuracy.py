"""Checks of the predictions on the matured hold-out."""

import pandas as pd

from liftloop.gate.verdict import CheckVerdict, Finding
from liftloop.outcomes import Outcomes
from liftloop.stats.columns import Floats
from liftloop.stats.interval import Interval
from liftloop.stats.scoring import normalized_entropy

MINIMUM_SLICE_REWARDS = 30  # below, a slice's normalized entropy is mostly noise


def enough_evidence(outcomes: Outcomes) -> Finding:
    """Rewards are what log loss is measured by: with few of them every model looks like every other."""
    found, needed = outcomes.rewards, outcomes.policy.minimum_rewards
    counted = f"{found:,} rewards in the hold-out of {len(outcomes.reward):,} impressions"
    if found >= needed:
        return Finding("pass", f"{counted}.", f"{found:,} rewards", f"at least {needed:,}")
    return Finding(
        "fail", f"{counted} cannot tell a model from a constant.", f"{found:,} rewards", f"at least {needed:,}"
    )


def beats(outcomes: Outcomes, probability: Floats, rival: Floats, name: str) -> Finding:
    """Paired on every row: pass if the whole interval is on the model's side, fail if not even the estimate is."""
    saved = outcomes.loss_saved(probability, rival)
    verdict: CheckVerdict = "pass" if saved.low > 0 else "fail" if saved.estimate <= 0 else "inconclusive"
    reason = (
        f"Its log loss is {_compared(saved.estimate)} than that of {name};"
        f" the {outcomes.policy.confidence:.0%} interval runs from {_compared(saved.low)} to {_compared(saved.high)}."
    )
    if verdict == "inconclusive":
        reason += " More rewards are needed to tell."
    return Finding(verdict, reason, f"{saved:.2%} less log loss", "above 0%", {"log_loss_saved": saved})


def is_calibrated(outcomes: Outcomes, probability: Floats) -> Finding:
    """Fail if the interval of predicted over observed rewards lies wholly outside the contract's bounds.

    Inconclusive if only the estimate does, or if the interval is so wide that it holds both bounds.
    """
    ratio = outcomes.calibration_ratio(probability)
    low, high = outcomes.policy.calibration_ratio
    threshold = f"{low:g} to {high:g}"
    values = {"calibration_ratio": ratio}
    promised = f"It promises {ratio.estimate:.2f} times the rewards that came"
    if is_outside(ratio, (low, high)):
        return Finding("fail", f"{promised}, surely outside {threshold}.", f"{ratio:.3f}", threshold, values)
    if not low <= ratio.estimate <= high or (ratio.low < low and ratio.high > high):
        return Finding("inconclusive", f"{promised}; too few came to tell.", f"{ratio:.3f}", threshold, values)
    return Finding("pass", f"{promised}.", f"{ratio:.3f}", threshold, values)


def is_outside(interval: Interval, bounds: tuple[float, float]) -> bool:
    """The whole interval lies below or above the bounds."""
    return interval.high < bounds[0] or interval.low > bounds[1]


def worst_slice(outcomes: Outcomes, probability: Floats, values: "pd.Series[str]") -> Finding:
    """Of the slices with enough rewards, the one with the highest normalized entropy: against its own mean rate.

    Fail if its whole interval lies above the contract's limit, inconclusive if the estimate alone does.
    """
    limit = outcomes.policy.worst_slice_entropy
    entropies = slice_entropies(outcomes, probability, values)
    if not entropies:
        reason = f"No value of {values.name} has {MINIMUM_SLICE_REWARDS} rewards or more."
        return Finding("not_applicable", reason, threshold=f"at most {limit:g}")
    worst = max(entropies, key=entropies.__getitem__)
    entropy = slice_interval(outcomes, probability, values, worst)
    verdict: CheckVerdict = "pass" if entropy.estimate <= limit else "fail" if entropy.low > limit else "inconclusive"
    reason = (
        f"Of {len(entropies)} values of {values.name}, {worst} is predicted worst; 1 is no better than its own rate."
    )
    return Finding(verdict, reason, f"{entropy:.3f}", f"at most {limit:g}", {"normalized_entropy": entropy})


def slice_entropies(outcomes: Outcomes, probability: Floats, values: "pd.Series[str]") -> dict[str, float]:
    """Normalized entropy by value, for values with enough rewards."""
    reward = pd.Series(outcomes.reward)
    members = reward.groupby(values.to_numpy()).indices
    judged = {value: rows for value, rows in members.items() if MINIMUM_SLICE_REWARDS <= reward[rows].sum() < len(rows)}
    return {str(value): normalized_entropy(outcomes.reward[rows], probability[rows]) for value, rows in judged.items()}


def slice_interval(outcomes: Outcomes, probability: Floats, values: "pd.Series[str]", value: str) -> Interval:
    """Normalized entropy of one slice."""
    is_member = (values.astype(str) == value).to_numpy()
    return outcomes.where(is_member).score(probability[is_member]).normalized_entropy


def _compared(share: float) -> str:
    return f"{abs(share):.2%} {'lower' if share >= 0 else 'higher'}"
