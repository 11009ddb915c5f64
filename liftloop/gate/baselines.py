"""What a model has to beat: the constant, and a rate per ad. Both learn from the training and validation parts."""

from itertools import chain

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import betaln

from liftloop.contract import Contract
from liftloop.duck import connect, quoted
from liftloop.stats.columns import Floats
from liftloop.training.frame import TrainingFrame

_LOG_STRENGTHS = (np.log(1), np.log(1e6))  # impressions that the mean rate counts for, within reason


def seen_keys(frame: TrainingFrame) -> list[str]:
    """The objects of the parts before the hold-out."""
    parts = (frame.index.parts[name].partitions for name in ("training", "validation"))
    return [ref.key for ref in chain(*parts)]


def mean_rate(frame: TrainingFrame) -> float:
    """Rewards per impression before the hold-out."""
    parts = [frame.index.parts["training"], frame.index.parts["validation"]]
    return sum(part.rewards for part in parts) / sum(part.rows for part in parts)


def ad_counts(contract: Contract, frame: TrainingFrame) -> pd.DataFrame:
    """`impressions` and `rewards` before the hold-out, by `ad_id`."""
    uris = [frame.store.uri(key) for key in seen_keys(frame)]
    with connect(frame.store.settings) as connection:
        connection.read_parquet(uris).create_view("seen")
        query = f"SELECT ad_id, count(*) AS impressions, sum({quoted(contract.reward)}) AS rewards FROM seen GROUP BY 1"
        return connection.execute(query).df().set_index("ad_id").sort_index().astype(np.float64)


def smoothed_rates(counts: pd.DataFrame, rate: float) -> "pd.Series[float]":
    """Each ad's rate drawn towards the mean rate, as strongly as its own counts call for.

    Empirical Bayes: the strength of the beta prior that makes the ads' counts most likely (Casella 1985, "An
    Introduction to Empirical Bayes Data Analysis").
    """
    impressions, rewards = counts["impressions"].to_numpy(), counts["rewards"].to_numpy()

    def surprise(log_strength: float) -> float:
        hits, misses = rate * np.exp(log_strength), (1 - rate) * np.exp(log_strength)
        return float((betaln(hits, misses) - betaln(hits + rewards, misses + impressions - rewards)).sum())

    strength = np.exp(minimize_scalar(surprise, bounds=_LOG_STRENGTHS, method="bounded").x)
    return pd.Series((rewards + strength * rate) / (impressions + strength), index=counts.index)


def per_ad(ad_ids: "pd.Series[str]", rates: "pd.Series[float]", rate: float) -> Floats:
    """The rate of each row's ad, shape (rows,); the mean rate for ads not seen before."""
    return np.asarray(ad_ids.map(rates).fillna(rate), dtype=np.float64)
