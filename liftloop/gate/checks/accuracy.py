"""Checks of accuracy on the matured hold-out: are there enough rewards, and is the model better than a baseline?"""

from liftloop.evaluation.rewards import RewardSample
from liftloop.gate.verdict import Check, CheckVerdict
from liftloop.stats.columns import Floats
from liftloop.stats.interval import Interval
from liftloop.stats.power import minimum_detectable_effect, times_more_rows


def check_enough_rewards(sample: RewardSample) -> Check:
    """Fail if the hold-out has fewer rewards than the contract's minimum: log losses are then indistinguishable."""
    found, needed = sample.rewards, sample.policy.minimum_rewards
    counted = f"{found:,} rewards in the hold-out of {len(sample.reward):,} impressions"
    if found >= needed:
        return Check("pass", f"{counted}.", f"{found:,} rewards", f"at least {needed:,}")
    return Check(
        "fail", f"{counted} are too few to tell a model from a constant.", f"{found:,} rewards", f"at least {needed:,}"
    )


def check_beats(sample: RewardSample, probability: Floats, baseline: Floats, name: str) -> Check:
    """The paired reduction in log loss: pass if the whole interval is above 0.

    Fail if it lies below the contract's `meaningful_effect`; inconclusive if it contains both.
    """
    policy = sample.policy
    reduction = sample.loss_reduction(probability, baseline)
    verdict: CheckVerdict = (
        "pass" if reduction.low > 0 else "fail" if reduction.high < policy.meaningful_effect else "inconclusive"
    )
    detectable = minimum_detectable_effect(reduction, confidence=policy.confidence, power=policy.power)
    return Check(
        verdict,
        f"{_comparison(reduction, name, policy.confidence)} {_meaning(sample, reduction, verdict, detectable)}",
        f"{reduction:.2%} lower log loss",
        f"above 0%; smallest effect that matters: {policy.meaningful_effect:.2%}",
        {"log_loss_reduction": reduction},
        {"minimum_detectable_effect": detectable},
    )


def _comparison(reduction: Interval, name: str, confidence: float) -> str:
    limits = f"{_compared(reduction.low)} to {_compared(reduction.high)}"
    return f"Log loss is {_compared(reduction.estimate)} than that of {name} ({confidence:.0%} interval: {limits})."


def _meaning(sample: RewardSample, reduction: Interval, verdict: CheckVerdict, detectable: float) -> str:
    """What the interval rules out, and how many rewards a decision needs."""
    effect, power = sample.policy.meaningful_effect, sample.policy.power
    power_words = f"This hold-out detects a true reduction of {detectable:.2%} with {power:.0%} power."
    if verdict == "pass":
        return power_words
    if verdict == "fail":
        return f"A reduction of {effect:.2%}, the smallest that matters, is ruled out. {power_words}"
    times = times_more_rows(reduction, effect)
    needed = f"{times * sample.rewards:,.0f} in {times * len(sample.reward):,.0f} impressions"
    return f"Telling no reduction from one of {effect:.2%} needs about {needed}. {power_words}"


def _compared(share: float) -> str:
    return f"{abs(share):.2%} {'lower' if share >= 0 else 'higher'}"
