"""Checks of calibration: overall, and at every level of prediction."""

import numpy as np

from liftloop.evaluation.rewards import RewardSample
from liftloop.gate.verdict import Check, CheckVerdict
from liftloop.stats.columns import Floats
from liftloop.stats.interval import Interval, is_outside


def check_calibration(sample: RewardSample, probability: Floats) -> Check:
    """Fail if the interval of predicted over observed rewards lies wholly outside the contract's bounds.

    Inconclusive if only the estimate does, or if the interval is so wide that it holds both bounds.
    """
    ratio = sample.calibration_ratio(probability)
    low, high = sample.policy.calibration_ratio
    threshold = f"{low:g} to {high:g}"
    values = {"calibration_ratio": ratio, "log_ratio": _logarithm(ratio)}
    found = f"Predicted / observed rewards = {ratio:.2f}"
    if is_outside(ratio, (low, high)):
        return Check("fail", f"{found}; the interval lies outside {threshold}.", f"{ratio:.3f}", threshold, values)
    if not low <= ratio.estimate <= high or (ratio.low < low and ratio.high > high):
        return Check(
            "inconclusive", f"{found}; inconclusive ({sample.rewards:,} rewards).", f"{ratio:.3f}", threshold, values
        )
    return Check("pass", f"{found}.", f"{ratio:.3f}", threshold, values)


def check_calibration_error(sample: RewardSample, probability: Floats) -> Check:
    """Fail if the interval of the debiased error is above the contract's limit, inconclusive if the estimate is."""
    error, limit = sample.calibration_error(probability), sample.policy.calibration_error
    verdict: CheckVerdict = "fail" if error.low > limit else "inconclusive" if error.estimate > limit else "pass"
    reason = (
        f"Over ten bins of predictions the debiased calibration error (root mean square) is {error.estimate:.1%} of"
        " the mean rate."
    )
    observed, threshold = f"{error:.1%} of the mean rate", f"at most {limit:.0%}"
    return Check(verdict, reason, observed, threshold, {"calibration_error": error})


def _logarithm(ratio: Interval) -> Interval:
    with np.errstate(divide="ignore"):
        return Interval(*(float(np.log(each)) for each in (ratio.estimate, ratio.low, ratio.high)))
