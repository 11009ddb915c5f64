"""Many tests at once, with one error rate for all of them together."""

import numpy as np
from numpy.typing import ArrayLike

from liftloop.stats.columns import Floats, shares


def holm(p_values: ArrayLike) -> Floats:
    """Adjusted p-values, shape (tests,), in the order given: reject those of at most alpha, and the chance that any
    true hypothesis is rejected is at most alpha, however the tests depend on each other.

    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".

    Raises:
        ValueError: no tests, or a value outside [0, 1].
    """
    p_values = shares("p_values", p_values)
    order = np.argsort(p_values)
    raised = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    adjusted = np.empty_like(raised)
    adjusted[order] = np.minimum(raised, 1)
    return adjusted
