"""Learns what impressions earn where the log does not say what ads pay: mean amounts by ad."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from liftloop.contract.contract import Contract
from liftloop.model.earnings import Earnings, LearnedAmounts, MeanAmounts
from liftloop.stats.columns import Floats
from liftloop.stats.shrinkage import credibility_means
from liftloop.storage.duckdb import connect, quoted
from liftloop.training.frame import Part, TrainingFrame

# Amounts above the highest of the rest count as that: a single order must not decide what an ad is worth.
_AMOUNTS = """
CREATE TEMP TABLE amounts AS
WITH rows AS (SELECT ad_id, advertiser_id, {reward} > 0 AS is_rewarded, coalesce({amount}, 0) AS amount FROM frame
              WHERE {unpriced}),
limits AS (SELECT quantile_disc(amount, 1 - $share) FILTER (is_rewarded) AS most FROM rows)
SELECT ad_id, advertiser_id, is_rewarded, least(amount, coalesce(most, amount)) AS amount FROM rows, limits
"""
_SUMS = """
SELECT {key}, {group} AS advertiser_id, count(*)::DOUBLE AS rows, sum(amount) AS amount, sum(amount * amount) AS squared
FROM amounts WHERE is_rewarded = $is_rewarded AND {key} IS NOT NULL GROUP BY 1 ORDER BY 1
"""


def fit_earnings(contract: Contract, frame: TrainingFrame, parts: Sequence[Part]) -> Earnings:
    """How impressions earn in the contract's objective, learned from these parts."""
    learned: dict[str, LearnedAmounts] = {}
    wanted = {"revenue": ("revenue",), "margin": ("revenue", "cost")}.get(contract.objective, ())
    for amount in wanted:
        learned[amount] = _learn(contract, frame, parts, amount)
    return Earnings(objective=contract.objective, reward=contract.reward, **learned)


def pays_for_conversions(contract: Contract, frame: TrainingFrame, parts: Sequence[Part]) -> bool:
    """Whether the objective needs P(conversion | click): it counts conversions, or ads of these parts pay for them."""
    if contract.reward != "click" or contract.objective == "clicks":
        return False
    return contract.objective == "conversions" or (contract.has_prices and "CPA" in _pricings(frame, parts))


def _pricings(frame: TrainingFrame, parts: Sequence[Part]) -> set[str]:
    with connect(frame.store.settings) as connection:
        connection.read_parquet(frame.uris(parts)).create_view("frame")
        return {pricing for (pricing,) in connection.execute("SELECT DISTINCT pricing FROM frame").fetchall()}


def _learn(contract: Contract, frame: TrainingFrame, parts: Sequence[Part], amount: str) -> LearnedAmounts:
    unpriced = "pricing IS NULL" if contract.has_prices and amount == "revenue" else "true"
    query = _AMOUNTS.format(reward=quoted(contract.reward), amount=quoted(amount), unpriced=unpriced)
    with connect(frame.store.settings) as connection:
        connection.read_parquet(frame.uris(parts)).create_view("frame")
        connection.execute(query, {"share": contract.gate.winsorized_share})

        def sums(key: str, group: str, is_rewarded: bool) -> pd.DataFrame:
            asked = _SUMS.format(key=key, group=group)
            return connection.execute(asked, {"is_rewarded": is_rewarded}).df().set_index(key)

        rewarded, unrewarded = (
            _means(sums("advertiser_id", "NULL", each), sums("ad_id", "any_value(advertiser_id)", each))
            for each in (True, False)
        )
    return LearnedAmounts(rewarded=rewarded, unrewarded=unrewarded)


def _means(advertisers: pd.DataFrame, ads: pd.DataFrame) -> MeanAmounts:
    overall = float(ads["amount"].sum() / ads["rows"].sum()) if len(ads) else 0.0
    of_advertiser = _shrunken(advertisers, np.full(len(advertisers), overall))
    priors = np.asarray(ads["advertiser_id"].map(of_advertiser).fillna(overall), dtype=np.float64)
    by_advertiser, by_ad = of_advertiser.to_dict(), _shrunken(ads, priors).to_dict()
    return MeanAmounts(overall=overall, by_advertiser=by_advertiser, by_ad=by_ad)


def _shrunken(groups: pd.DataFrame, priors: Floats) -> "pd.Series[float]":
    means = credibility_means(groups["rows"], groups["amount"], groups["squared"], priors)
    return pd.Series(means, index=groups.index)
