"""A champion's predictions and rewards by hour of event time, as a table and on record."""

import numpy as np
import pandas as pd

from liftloop.evaluation.records import HourSums
from liftloop.evaluation.rewards import RewardSample
from liftloop.stats.columns import Floats
from liftloop.stats.scoring import area_under_roc, log_loss_per_row

SUMS = ("impressions", "rewards", "predicted", "log_loss", "concordance", "ranked")


def hour_sums(
    times: "pd.Series[pd.Timestamp]", sample: RewardSample, probability: Floats, *, represented: int
) -> tuple[HourSums, ...]:
    """The sums of each hour that has rows, in order; `times` and `probability` have shape (rows,).

    `represented` is the number of logged impressions that the rows are all, or a sample, of.
    The area under the ROC curve is that within the hour, so that what moves all rates alike leaves it unchanged.
    """
    weight = sample.weight * represented / len(times)
    code, hours = pd.factorize(times.dt.floor("h"), sort=True)
    rewards = np.bincount(code, weight * sample.reward)
    area = np.array([_area(sample.reward[code == each], probability[code == each]) for each in range(len(hours))])
    sums = {
        "impressions": np.bincount(code, weight),
        "rewards": rewards,
        "predicted": np.bincount(code, weight * probability),
        "log_loss": np.bincount(code, weight * log_loss_per_row(sample.reward, probability)),
        "concordance": np.nan_to_num(rewards * area),
        "ranked": np.where(np.isnan(area), 0.0, rewards),
    }
    table = pd.DataFrame(sums).assign(hour=hours)
    return tuple(HourSums.model_validate(row) for row in table.to_dict("records"))


def _area(reward: Floats, probability: Floats) -> float:
    """NaN where no pair can be compared."""
    return area_under_roc(reward, probability) if reward.min() < reward.max() else np.nan
