"""Checks of the predictions on the matured hold-out: is there enough to go by, and is the model better than a rival?"""

from liftloop.evaluation.rewards import Outcomes
from liftloop.gate.verdict import CheckVerdict, Finding
from liftloop.stats.columns import Floats
from liftloop.stats.interval import Interval
from liftloop.stats.power import minimum_detectable_effect, times_more_rows


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
    """Paired on every row: pass if the whole interval is above 0.

    Fail, for no better, if it lies below the contract's `meaningful_effect`; inconclusive if it holds both.
    """
    policy = outcomes.policy
    saved = outcomes.loss_saved(probability, rival)
    verdict: CheckVerdict = (
        "pass" if saved.low > 0 else "fail" if saved.high < policy.meaningful_effect else "inconclusive"
    )
    detectable = minimum_detectable_effect(saved, confidence=policy.confidence, power=policy.power)
    return Finding(
        verdict,
        f"{_comparison(saved, name, policy.confidence)} {_meaning(outcomes, saved, verdict, detectable)}",
        f"{saved:.2%} less log loss",
        f"above 0%; {policy.meaningful_effect:.2%} or more would matter",
        {"log_loss_saved": saved},
        {"minimum_detectable_effect": detectable},
    )


def _comparison(saved: Interval, name: str, confidence: float) -> str:
    limits = f"from {_compared(saved.low)} to {_compared(saved.high)}"
    return (
        f"Its log loss is {_compared(saved.estimate)} than that of {name}; the {confidence:.0%} interval runs {limits}."
    )


def _meaning(outcomes: Outcomes, saved: Interval, verdict: CheckVerdict, detectable: float) -> str:
    """What the interval rules out, and what it takes to say more."""
    effect, power = outcomes.policy.meaningful_effect, outcomes.policy.power
    could = f"So large a hold-out finds a true saving of {detectable:.2%} {power:.0%} of the time."
    if verdict == "pass":
        return could
    if verdict == "fail":
        return f"That rules out a saving of {effect:.2%}, the least that would matter: it is no better. {could}"
    times = times_more_rows(saved, effect)
    needed = f"{times * outcomes.rewards:,.0f} in {times * len(outcomes.reward):,.0f} impressions"
    return f"More rewards are needed to tell nothing from {effect:.2%}: about {needed}. {could}"


def _compared(share: float) -> str:
    return f"{abs(share):.2%} {'lower' if share >= 0 else 'higher'}"
