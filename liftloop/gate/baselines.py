"""The baselines that a model must beat: a constant and a rate per ad, both from the training and validation parts."""

import numpy as np
import pandas as pd

from liftloop.contract.contract import Contract
from liftloop.stats.columns import Floats
from liftloop.storage.duckdb import connect, quoted
from liftloop.training.frame import TrainingFrame


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
