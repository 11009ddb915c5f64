"""KPIs of impressions: click-through rate, conversion rate, revenue and margin, with intervals."""

import numpy as np
import pandas as pd

from liftloop.contract.contract import COLUMNS_OF_KPI, Contract, Kpi
from liftloop.evaluation.rewards import RewardSample
from liftloop.stats.interval import Interval
from liftloop.storage.frozen import Measured

EVERY_POLICY = "all"
KPI_COLUMNS = ("impression_id", "event_timestamp", "user_id", "policy", "click", "conversion", "revenue", "cost")


class Kpis(Measured):
    """KPIs of some impressions; None where the source lacks the columns, or there is no interval."""

    impressions: int
    click_through_rate: Interval | None  # clicks per impression
    conversion_rate: Interval | None  # conversions per click
    conversions_per_mille: Interval | None  # conversions per 1,000 impressions
    revenue_per_mille: Interval | None  # currency units per 1,000 impressions
    margin_per_mille: Interval | None  # revenue minus cost, currency units per 1,000 impressions


def kpis_by_policy(contract: Contract, rows: pd.DataFrame) -> dict[str, Kpis]:
    """KPIs of all rows, and of each policy's rows where the source names policies; rows have `KPI_COLUMNS`."""
    by_policy = {str(policy): part for policy, part in rows.groupby("policy") if len(part) < len(rows)}
    return {name: _kpis(contract, part) for name, part in {EVERY_POLICY: rows, **by_policy}.items()}


def _kpis(contract: Contract, rows: pd.DataFrame) -> Kpis:
    sample = RewardSample.of(contract, rows, rows[contract.reward].to_numpy(dtype=float))
    per_impression = pd.Series(1.0, index=rows.index)
    ratios: dict[Kpi, tuple[pd.Series[float], pd.Series[float]]] = {
        "click_through_rate": (rows["click"], per_impression),
        "conversion_rate": (rows["conversion"], rows["click"].fillna(0)),
        "conversions_per_mille": (1000 * rows["conversion"], per_impression),
        "revenue_per_mille": (1000 * rows["revenue"], per_impression),
        "margin_per_mille": (1000 * (rows["revenue"] - rows["cost"].fillna(0)), per_impression),
    }
    known = contract.outcome_columns
    kpis = {name: _ratio(*ratio, sample) if COLUMNS_OF_KPI[name] <= known else None for name, ratio in ratios.items()}
    return Kpis(impressions=len(rows), **kpis)


def _ratio(numerator: "pd.Series[float]", denominator: "pd.Series[float]", sample: RewardSample) -> Interval | None:
    """The ratio of two sums over the full log; missing values of the numerator count as 0."""
    above, below = (sample.weight * values.fillna(0).astype(float) for values in (numerator, denominator))
    has_interval = below.any() and np.unique(sample.blocks).size > 1
    return sample.ratio(above, below, is_positive=bool((above >= 0).all())) if has_interval else None
