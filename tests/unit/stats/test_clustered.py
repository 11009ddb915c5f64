"""Ratios whose rows are clustered in two ways: limits by hand, and how often they hold the truth."""

import numpy as np
import pytest
from scipy.stats import t

from liftloop.stats.clustered import clustered_ratio


def test_limits_by_hand() -> None:
    values, day, user = np.array([1.0, 2, 4, 9]), np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    influence = (values - 4) / 4
    by_day, by_user = influence.reshape(2, 2).sum(axis=1), influence.reshape(2, 2).sum(axis=0)
    variances = [2 * (by_day**2).sum(), 2 * (by_user**2).sum(), 4 / 3 * (influence**2).sum()]
    half = t.ppf(0.975, 1) * np.sqrt(variances[0] + variances[1] - variances[2])
    found = clustered_ratio(values, np.ones(4), first=day, second=user)
    assert (found.estimate, found.low, found.high) == pytest.approx((4, 4 - half, 4 + half))


def test_names_of_clusters_and_order_of_rows_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    values, rows, days, users = rng.random(300), rng.random(300), rng.integers(0, 7, 300), rng.integers(0, 40, 300)
    order = rng.permutation(300)
    found = clustered_ratio(values, rows, first=days, second=users)
    other = clustered_ratio(values[order], rows[order], first=50 - days[order], second=users[order] + 3)
    assert (found.low, found.high) == pytest.approx((other.low, other.high))
    turned = clustered_ratio(values, rows, first=users, second=days)
    assert (found.low, found.high) == pytest.approx((turned.low, turned.high))


@pytest.mark.parametrize("day_spread", [0, 0.1, 0.3])
@pytest.mark.parametrize("user_spread", [0, 1.0])
def test_the_mean_is_covered_whatever_moves(day_spread: float, user_spread: float) -> None:
    rng, hits = np.random.default_rng(2), 0
    for _ in range(400):
        day, user = np.repeat(np.arange(7), 300), rng.integers(0, 100, 2100)
        moved = day_spread * rng.normal(size=7)[day] + user_spread * rng.normal(size=100)[user]
        found = clustered_ratio(moved + rng.normal(size=2100), np.ones(2100), first=day, second=user)
        hits += found.low <= 0 <= found.high
    assert hits / 400 >= 0.92


@pytest.mark.parametrize(
    ("numerator", "denominator", "first", "words"),
    [
        ([1, 2], [0, 0], [0, 1], "all 2 rows are 0"),
        ([1, 2], [1, 1], [0, 0], "1 cluster in 2 rows"),
        ([1, 2], [1, -1], [0, 1], "0 or more"),
        ([1, 2, 3], [1, 1], [0, 1], "lengths differ"),
    ],
)
def test_what_has_no_interval_is_refused(
    numerator: list[float], denominator: list[float], first: list[int], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        clustered_ratio(numerator, denominator, first=np.array(first), second=np.array([0, 1]))
