"""Checks of accuracy on the matured hold-out: are there enough rewards, and is the model better than a baseline?"""

import numpy as np

from liftloop.evaluation.rewards import MINIMUM_DAYS, RewardSample
from liftloop.gate.verdict import Check, CheckVerdict
from liftloop.stats.columns import Floats
from liftloop.stats.interval import Interval
from liftloop.stats.power import minimum_detectable_effect, times_more_rows

FEW_DAYS = (
    f"Fewer than {MINIMUM_DAYS} days do not tell a difference between models from one between days: lengthen"
    " split.holdout, or set gate.exchangeable_days if rates do not move from day to day."
)


def check_enough_rewards(sample: RewardSample) -> Check:
    """Inconclusive if the hold-out has fewer rewards than the contract's minimum: log losses are indistinguishable."""
    found, needed = sample.rewards, sample.policy.minimum_rewards
    counted = f"{found:,} rewards in the hold-out of {len(sample.reward):,} impressions"
    if found >= needed:
        return Check("pass", f"{counted}.", f"{found:,} rewards", f"at least {needed:,}")
    reason = f"{counted} are too few to tell a model from a constant."
    return Check("inconclusive", reason, f"{found:,} rewards", f"at least {needed:,}")


def check_beats(sample: RewardSample, probability: Floats, baseline: Floats, name: str) -> Check:
    """The paired reduction in log loss: pass if the whole interval is above 0 and reaches what matters.

    Fail if it lies below the contract's `meaningful_effect`; inconclusive if it contains both, or has too few days.
    """
    policy = sample.policy
    reduction = sample.loss_reduction(probability, baseline)
    verdict = _verdict(sample, reduction)
    detectable = minimum_detectable_effect(reduction, confidence=policy.confidence, power=policy.power)
    comparison = _comparison(reduction, name, policy.confidence)
    meaning = _meaning(sample, reduction, verdict, detectable)
    return Check(
        verdict,
        f"{FEW_DAYS} {comparison}" if sample.has_few_days else f"{comparison} {meaning}",
        f"{reduction:.2%} lower log loss",
        f"above 0%; smallest effect that matters: {policy.meaningful_effect:.2%}",
        {"log_loss_reduction": reduction},
        {"minimum_detectable_effect": detectable},
    )


def check_not_worse(sample: RewardSample, probability: Floats, baseline: Floats, name: str) -> Check:
    """Non-inferiority in log loss: pass if the whole interval of the reduction lies above minus `decision_margin`.

    Fail if the whole interval is below 0; else inconclusive, as with too few days.
    """
    reduction, margin = sample.loss_reduction(probability, baseline), sample.policy.decision_margin
    is_shown = reduction.low > -margin and not sample.has_few_days
    verdict: CheckVerdict = "fail" if reduction.high < 0 else "pass" if is_shown else "inconclusive"
    comparison = _comparison(reduction, name, sample.policy.confidence)
    return Check(
        verdict,
        f"{FEW_DAYS} {comparison}" if sample.has_few_days else comparison,
        f"{reduction:.2%} lower log loss",
        f"above {-margin:.0%}",
        {"log_loss_reduction": reduction},
    )


def _verdict(sample: RewardSample, reduction: Interval) -> CheckVerdict:
    if sample.has_few_days:
        return "inconclusive"
    if reduction.high < sample.policy.meaningful_effect:
        return "fail"
    return "pass" if reduction.low > 0 else "inconclusive"


def _comparison(reduction: Interval, name: str, confidence: float) -> str:
    limits = f"{_compared(reduction.low)} to {_compared(reduction.high)}"
    return (
        f"Log loss is {_compared(reduction.estimate)} than that of {name} ({100 * confidence:.4g}% interval: {limits})."
    )


def _meaning(sample: RewardSample, reduction: Interval, verdict: CheckVerdict, detectable: float) -> str:
    """What the interval rules out, and how many rewards a decision needs."""
    effect, power = sample.policy.meaningful_effect, sample.policy.power
    power_words = f"This hold-out detects a true reduction of {detectable:.2%} with {power:.0%} power."
    if verdict == "pass":
        return power_words
    if verdict == "fail" and reduction.low > 0:
        return (
            f"It is better, but not worth a move: a reduction of {effect:.2%}, the smallest that matters, is ruled out."
        )
    if verdict == "fail":
        return f"A reduction of {effect:.2%}, the smallest that matters, is ruled out. {power_words}"
    times = times_more_rows(reduction, effect)
    if sample.days is not None:  # it is days that the interval lacks, not rows
        days = times * len(np.unique(sample.days))
        return f"Telling no reduction from one of {effect:.2%} needs about {days:,.0f} days like these. {power_words}"
    needed = f"{times * sample.rewards:,.0f} in {times * len(sample.reward):,.0f} impressions"
    return f"Telling no reduction from one of {effect:.2%} needs about {needed}. {power_words}"


def _compared(share: float) -> str:
    return f"{abs(share):.2%} {'lower' if share >= 0 else 'higher'}"
