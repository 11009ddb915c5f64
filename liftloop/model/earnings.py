"""What an impression is expected to earn: by what the log says that ads pay, or by amounts learned from it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liftloop.contract.sections import Objective, Reward
from liftloop.stats.columns import Floats
from liftloop.storage.frozen import Frozen


class MeanAmounts(Frozen):
    """Mean amounts of ads in currency units, each shrunk towards its advertiser's, and that towards the overall one."""

    overall: float
    by_advertiser: dict[str, float]
    by_ad: dict[str, float]

    def of(self, ads: pd.DataFrame) -> Floats:
        """The mean of each ad, shape (ads,); of a new one that of its advertiser, or the overall one."""
        amounts = ads["ad_id"].map(self.by_ad)
        if "advertiser_id" in ads:
            amounts = amounts.fillna(ads["advertiser_id"].map(self.by_advertiser))
        return np.asarray(amounts.fillna(self.overall), dtype=np.float64)


class LearnedAmounts(Frozen):
    """Mean amounts of impressions with a reward, and of those without."""

    rewarded: MeanAmounts
    unrewarded: MeanAmounts


@dataclass(frozen=True)
class Terms:
    """What ads pay for an impression, a reward, and a conversion that follows it; each of shape (ads,)."""

    per_impression: Floats
    per_reward: Floats
    per_conversion: Floats

    def value(self, ad: NDArray[np.intp], probability: Floats, conversion: Floats | float = 0.0) -> Floats:
        """Expected value of showing an ad, shape (candidates,).

        Args:
            ad: which ad, shape (candidates,).
            probability: P(reward), shape (candidates,).
            conversion: P(conversion | reward), shape (candidates,).
        """
        per_reward = self.per_reward[ad] + conversion * self.per_conversion[ad]
        return np.asarray(self.per_impression[ad] + probability * per_reward)


class Earnings(Frozen):
    """How impressions earn in the unit of the contract's objective: events, or currency units."""

    objective: Objective
    reward: Reward
    revenue: LearnedAmounts | None = None  # of ads without a price; None: the objective is no amount
    cost: LearnedAmounts | None = None  # None: the objective is not margin

    def terms(self, ads: pd.DataFrame) -> Terms:
        """The terms of these ads, by `ad_id` and, where the log has them, `advertiser_id`, `pricing` and `bid`."""
        none, one = np.zeros(len(ads)), np.ones(len(ads))
        if self.revenue is None:
            is_of_conversion = self.objective == "conversions" and self.reward == "click"
            return Terms(none, none, one) if is_of_conversion else Terms(none, one, none)
        terms = self._priced(ads, _terms(self.revenue, ads))
        if self.cost is None:
            return terms
        cost = _terms(self.cost, ads)
        return Terms(
            terms.per_impression - cost.per_impression, terms.per_reward - cost.per_reward, terms.per_conversion
        )

    def _priced(self, ads: pd.DataFrame, learned: Terms) -> Terms:
        """The prices of ads that have one, and what was learned of the others."""
        if "pricing" not in ads:
            return learned
        pricing, bid = ads["pricing"].to_numpy(dtype=object), ads["bid"].to_numpy(dtype=np.float64)
        of_reward = "CPC" if self.reward == "click" else "CPA"
        has_price = ads["pricing"].notna().to_numpy()
        return Terms(
            np.where(has_price, np.where(pricing == "CPM", bid / 1000, 0), learned.per_impression),
            np.where(has_price, np.where(pricing == of_reward, bid, 0), learned.per_reward),
            np.where((pricing == "CPA") & (of_reward == "CPC"), bid, 0),
        )


def _terms(learned: LearnedAmounts, ads: pd.DataFrame) -> Terms:
    """What is earned anyway is paid for the impression, and the difference for the reward."""
    anyway = learned.unrewarded.of(ads)
    return Terms(anyway, learned.rewarded.of(ads) - anyway, np.zeros(len(ads)))
