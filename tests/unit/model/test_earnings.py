"""What an ad is expected to be worth, by objective and price."""

import numpy as np
import pandas as pd
import pytest

from liftloop.contract.sections import Objective, Reward
from liftloop.model.earnings import Earnings, LearnedAmounts, MeanAmounts


def means(overall: float, **by_ad: float) -> MeanAmounts:
    return MeanAmounts(overall=overall, by_advertiser={"v": 7.0}, by_ad=by_ad)


REVENUE = LearnedAmounts(rewarded=means(2, known=5), unrewarded=means(0, known=1))
ADS = pd.DataFrame(
    {
        "ad_id": ["a", "b", "c", "known", "new", "newest"],
        "advertiser_id": ["v", "v", "v", "v", "v", "w"],
        "pricing": ["CPM", "CPC", "CPA", None, None, None],
        "bid": [3.0, 0.5, 20.0, None, None, None],
    }
)


def value(earnings: Earnings, ads: pd.DataFrame = ADS) -> list[float]:
    """With P(click) 0.1, and P(conversion | click) 0.2."""
    everyone = np.arange(len(ads))
    return list(earnings.terms(ads).value(everyone, np.full(len(ads), 0.1), np.full(len(ads), 0.2)))


@pytest.mark.parametrize(
    ("objective", "reward", "expected"),
    [("clicks", "click", 0.1), ("conversions", "click", 0.1 * 0.2), ("conversions", "conversion", 0.1)],
)
def test_events_are_worth_their_probability(objective: Objective, reward: Reward, expected: float) -> None:
    assert value(Earnings(objective=objective, reward=reward)) == pytest.approx([expected] * len(ADS))


def test_ads_are_worth_what_they_pay_or_what_was_learned() -> None:
    found = value(Earnings(objective="revenue", reward="click", revenue=REVENUE))
    assert found == pytest.approx([0.003, 0.1 * 0.5, 0.1 * 0.2 * 20, 0.9 * 1 + 0.1 * 5, 7, 0.1 * 2])


def test_a_model_of_conversions_values_what_they_pay() -> None:
    found = value(Earnings(objective="revenue", reward="conversion", revenue=REVENUE))
    assert found[:3] == pytest.approx([0.003, 0, 0.1 * 20])


def test_margin_is_revenue_minus_cost() -> None:
    cost = LearnedAmounts(rewarded=means(1), unrewarded=means(0.25))
    ads = ADS.drop(columns=["pricing", "bid", "advertiser_id"])
    revenue = value(Earnings(objective="revenue", reward="click", revenue=REVENUE), ads)
    margin = value(Earnings(objective="margin", reward="click", revenue=REVENUE, cost=cost), ads)
    assert np.subtract(revenue, margin) == pytest.approx([0.9 * 0.25 + 0.1 * 1] * len(ads))
