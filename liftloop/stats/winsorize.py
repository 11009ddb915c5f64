"""Winsorizing: heavy-tailed amounts are cut to limits that the others set, for some bias and far less variance."""

import numpy as np
from numpy.typing import ArrayLike

from liftloop.stats.columns import Floats, column


def winsorized(amounts: ArrayLike, share: float) -> Floats:
    """The amounts, shape (rows,), with the `share` of highest and of lowest that are not 0 cut to the next ones.

    Rows that earned nothing are left out of the count, because they are nearly all (Dixon 1960, "Simplified Estimation
    from Censored Normal Samples").
    """
    amounts = column("amounts", amounts)
    earned = amounts[amounts != 0]
    if not earned.size:
        return amounts
    low = np.quantile(earned, share, method="lower")
    high = np.quantile(earned, 1 - share, method="higher")
    return np.clip(amounts, min(float(low), 0.0), max(float(high), 0.0))
