"""What impressions earned, in the unit of the contract's objective, and figures in that unit as text."""

import numpy as np
import pandas as pd

from liftloop.contract.contract import Contract
from liftloop.contract.sections import Objective
from liftloop.stats.columns import Floats
from liftloop.stats.interval import Interval

UNITS: dict[Objective, str] = {  # of values as `in_unit` writes them
    "clicks": "clicks per impression",
    "conversions": "conversions per 1,000 impressions",
    "revenue": "currency units per 1,000 impressions",
    "margin": "currency units per 1,000 impressions, revenue minus cost",
}

_COLUMNS: dict[Objective, str] = {"clicks": "click", "conversions": "conversion", "revenue": "revenue"}


def earned(contract: Contract, rows: pd.DataFrame) -> Floats:
    """Clicks, conversions, revenue or margin of each impression, shape (rows,); a missing outcome counts as 0."""
    if contract.objective == "margin":
        return _amounts(rows["revenue"]) - _amounts(rows["cost"])
    return _amounts(rows[_COLUMNS[contract.objective]])


def earned_sql(contract: Contract) -> str:
    """The same of one row, in SQL."""
    if contract.objective == "margin":
        return "coalesce(revenue, 0) - coalesce(cost, 0)"
    return f"coalesce({_COLUMNS[contract.objective]}, 0)"


def in_unit(objective: Objective, value: Interval | float) -> str:
    """A value per impression as text: a share of clicks, else per 1,000 impressions."""
    if objective == "clicks":
        return f"{value:.3%}"
    if isinstance(value, Interval):
        value = Interval(1000 * value.estimate, 1000 * value.low, 1000 * value.high)
        return f"{value:.3f}"
    return f"{1000 * value:.3f}"


def _amounts(column: "pd.Series[float]") -> Floats:
    return np.asarray(column.fillna(0), dtype=np.float64)
