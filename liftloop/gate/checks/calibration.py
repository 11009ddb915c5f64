"""Checks of whether predictions are promises that are kept: overall, and at every level of prediction."""

import numpy as np

from liftloop.evaluation.rewards import Outcomes
from liftloop.gate.verdict import CheckVerdict, Finding
from liftloop.stats.columns import Floats
from liftloop.stats.interval import Interval, is_outside


def is_calibrated(outcomes: Outcomes, probability: Floats) -> Finding:
    """Fail if the interval of predicted over observed rewards lies wholly outside the contract's bounds.

    Inconclusive if only the estimate does, or if the interval is so wide that it holds both bounds.
    """
    ratio = outcomes.calibration_ratio(probability)
    low, high = outcomes.policy.calibration_ratio
    threshold = f"{low:g} to {high:g}"
    values = {"calibration_ratio": ratio, "log_ratio": _logarithm(ratio)}
    promised = f"It promises {ratio.estimate:.2f} times the rewards that came"
    if is_outside(ratio, (low, high)):
        return Finding("fail", f"{promised}, surely outside {threshold}.", f"{ratio:.3f}", threshold, values)
    if not low <= ratio.estimate <= high or (ratio.low < low and ratio.high > high):
        return Finding("inconclusive", f"{promised}; too few came to tell.", f"{ratio:.3f}", threshold, values)
    return Finding("pass", f"{promised}.", f"{ratio:.3f}", threshold, values)


def is_calibrated_throughout(outcomes: Outcomes, probability: Floats) -> Finding:
    """Fail if the debiased calibration error is surely above the contract's limit, inconclusive if it may well be."""
    error, limit = outcomes.calibration_error(probability), outcomes.policy.calibration_error
    verdict: CheckVerdict = "fail" if error.low > limit else "inconclusive" if error.estimate > limit else "pass"
    reason = (
        f"At ten levels of prediction, predicted and observed rate are typically {error.estimate:.1%} of the mean rate"
        " apart, over and above what chance makes of it."
    )
    observed, threshold = f"{error:.1%} of the mean rate", f"at most {limit:.0%}"
    return Finding(verdict, reason, observed, threshold, {"calibration_error": error})


def _logarithm(ratio: Interval) -> Interval:
    with np.errstate(divide="ignore"):
        return Interval(*(float(np.log(each)) for each in (ratio.estimate, ratio.low, ratio.high)))
