"""The baselines that a model must beat: a constant, a rate per ad, and the ad that earned most in each place.

All are from the training and validation parts.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liftloop.contract.contract import Contract
from liftloop.evaluation.earned import earned_sql
from liftloop.stats.columns import Floats
from liftloop.stats.shrinkage import credibility_means
from liftloop.storage.duckdb import connect, quoted
from liftloop.training.frame import TrainingFrame

# Amounts are winsorized as by `liftloop.stats.winsorize`: a single order must not decide which ad is best.
_EARNED = """
WITH rows AS (SELECT {group} AS place, ad_id, {earned} AS amount,
                     CASE WHEN {reward} > 0 THEN 1 ELSE 1 / $kept END AS weight FROM logged WHERE {group} IS NOT NULL),
limits AS (SELECT coalesce(quantile_disc(amount, $share), 0) AS low, coalesce(quantile_disc(amount, 1 - $share), 0)
           AS high FROM rows WHERE amount <> 0),
amounts AS (SELECT place, ad_id, weight, greatest(least(amount, greatest(high, 0)), least(low, 0))::DOUBLE AS amount
            FROM rows, limits)
SELECT place, ad_id, sum(weight)::DOUBLE AS rows, sum(weight * amount) AS amount,
       sum(weight * amount * amount) AS squares FROM amounts GROUP BY place, ad_id ORDER BY place, ad_id
"""


def mean_rate(contract: Contract, frame: TrainingFrame) -> float:
    """Rewards per impression of all traffic before the hold-out, including impressions that the log omits."""
    return frame.index.together(("training", "validation")).reward_rate(contract.outcome.negatives_kept)


def ad_counts(contract: Contract, frame: TrainingFrame) -> pd.DataFrame:
    """`impressions` of all traffic and `rewards` before the hold-out, by `ad_id`."""
    with connect(frame.store.settings) as connection:
        connection.read_parquet(frame.uris(("training", "validation"))).create_view("logged")
        query = (
            f"SELECT ad_id, count(*) AS impressions, sum({quoted(contract.reward)}) AS rewards FROM logged GROUP BY 1"
        )
        counts = connection.execute(query).df().set_index("ad_id").sort_index().astype(np.float64)
    others = counts["impressions"] - counts["rewards"]
    return counts.assign(impressions=counts["rewards"] + others / contract.outcome.negatives_kept)


def per_ad(ad_ids: "pd.Series[str]", rates: "pd.Series[float]", rate: float) -> Floats:
    """The rate of each row's ad, shape (rows,); the mean rate for new ads."""
    return np.asarray(ad_ids.map(rates).fillna(rate), dtype=np.float64)


def earnings_ranks(contract: Contract, frame: TrainingFrame, ads: pd.DataFrame) -> NDArray[np.intp]:
    """The rank of each ad by what it earned per impression of its place before the hold-out, shape (ads,).

    The highest earned most; no two are equal. Means are shrunk towards the place's, so that no rare ad is best by luck;
    a new ad has that, and of equal ones the one that was shown most comes first.
    """
    earned = _earned(contract, frame)
    places = earned.groupby("place")[["amount", "rows"]].transform("sum")
    priors = places["amount"] / places["rows"]
    means = credibility_means(earned["rows"], earned["amount"], earned["squares"], priors)
    found = ads[[contract.choose_among, "ad_id"]].set_axis(["place", "ad_id"], axis="columns")
    found = found.merge(earned.assign(mean=means)[["place", "ad_id", "rows", "mean"]], how="left")
    of_place = found["place"].map(priors.groupby(earned["place"]).first()).fillna(0)
    ranks = np.empty(len(found), dtype=np.intp)
    ranks[np.lexsort((found["rows"].fillna(0), found["mean"].fillna(of_place)))] = np.arange(len(found))
    return ranks


def _earned(contract: Contract, frame: TrainingFrame) -> pd.DataFrame:
    """Impressions of all traffic before the hold-out, and their winsorized amounts, by place and ad."""
    names = {"group": quoted(contract.choose_among), "earned": earned_sql(contract), "reward": quoted(contract.reward)}
    options = {"kept": contract.outcome.negatives_kept, "share": contract.gate.winsorized_share}
    with connect(frame.store.settings) as connection:
        connection.read_parquet(frame.uris(("training", "validation"))).create_view("logged")
        return connection.execute(_EARNED.format(**names), options).df()
