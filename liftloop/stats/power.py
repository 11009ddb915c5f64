"""Power of a comparison: the smallest effect that it detects, and the sample size that would resolve it."""

from scipy.special import ndtri

from liftloop.stats.interval import Interval


def minimum_detectable_effect(interval: Interval, *, confidence: float, power: float) -> float:
    """The true effect whose interval lies above 0 with probability `power`, in the unit of the interval.

    Bloom 1995, "Minimum Detectable Effects: A Simple Way to Report the Statistical Power of Experimental Designs". The
    standard error is derived from the interval, as if its limits were normal.
    """
    limit = ndtri((1 + confidence) / 2)
    standard_error = (interval.high - interval.low) / (2 * limit)
    return float((limit + ndtri(power)) * standard_error)


def times_more_rows(interval: Interval, effect: float) -> float:
    """The growth of rows until no interval holds both 0 and `effect`: widths shrink as 1 / sqrt(rows)."""
    return ((interval.high - interval.low) / effect) ** 2
