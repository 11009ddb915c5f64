"""Thompson sampling's choices: by hand where they can be told, and against the chance of one ad beating another."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import beta

from liftloop.stats.thompson import slot_probabilities


def test_certain_ads_fill_the_slots_in_order() -> None:
    found = slot_probabilities([1, 9_000, 5_000], [9_999, 1_000, 5_000], 2, draws=500, seed=0)
    np.testing.assert_array_equal(found, [[0, 0], [1, 0], [0, 1]])


def test_every_slot_shows_some_ad_and_no_draw_shows_one_twice() -> None:
    found = slot_probabilities([3, 5, 8, 2], [100, 120, 90, 70], 3, draws=25_000, seed=0)
    np.testing.assert_allclose(found.sum(axis=0), 1)
    assert (found.sum(axis=1) <= 1 + 1e-12).all()


def test_two_ads_win_as_often_as_their_posteriors_say() -> None:
    chance, _ = quad(lambda rate: beta.pdf(rate, 12, 300) * beta.cdf(rate, 8, 260), 0, 0.3)
    found = slot_probabilities([12, 8], [300, 260], 1, draws=100_000, seed=0)[0, 0]
    assert found == pytest.approx(chance, abs=5 * np.sqrt(0.25 / 100_000))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], [1], 1), "lengths differ: alpha has 2, beta has 1"),
        (([1, 0], [1, 1], 1), "alpha: 1 of 2 rows are not above 0"),
        (([1, 2], [1, 1], 3), "slots=3: must be between 1 and the number of ads, 2"),
    ],
)
def test_what_cannot_be_drawn(arguments: tuple[list[float], list[float], int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        slot_probabilities(*arguments, seed=0)
