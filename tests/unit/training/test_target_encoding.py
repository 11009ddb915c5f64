"""Target encoding: rates as counted by hand, no row told of its own reward, crosses only where they tell more."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from liftloop.model.encoder import Encoder
from liftloop.stats.shrinkage import prior_strength, shrunken_rates
from liftloop.training.frame import FOLDS, folds_of
from liftloop.training.target_encoding import (
    TargetCounts,
    choose_crosses,
    encode_out_of_fold,
    make_encoders,
    make_target_counts,
)

random = np.random.default_rng(7)
COUNT = 4_000
ROWS = pd.DataFrame(
    {
        "impression_id": [f"i{number}" for number in range(COUNT)],
        "ad_id": random.choice(["a0", "a1", "a2"], COUNT),
        "device": random.choice(["desk", "phone"], COUNT),
        "noise": random.choice(["n0", "n1", "n2"], COUNT),
    }
)
LIKES = (ROWS["ad_id"] == "a1") == (ROWS["device"] == "phone")  # neither column tells by itself
CLICKS = pd.Series((random.random(COUNT) < np.where(LIKES, 0.5, 0.1)).astype(float))
RATE = CLICKS.mean()


def count(names: list[str], clicks: "pd.Series[float]" = CLICKS) -> pd.DataFrame:
    """As `TrainingFrame.target_counts` does."""
    rows = ROWS[names].assign(fold=folds_of(ROWS), impressions=1, rewards=clicks)
    return rows.groupby([*names, "fold"], as_index=False).sum()


ENCODER = Encoder.fit({name: Counter(ROWS[name].tolist()) for name in ("ad_id", "device", "noise")}, [])


def counts_of(*names: str, clicks: "pd.Series[float]" = CLICKS, negatives_kept: float = 1.0) -> TargetCounts:
    return make_target_counts(ENCODER, names, count(list(names), clicks), RATE, negatives_kept)


def test_rates_are_those_counted_by_hand() -> None:
    found = counts_of("ad_id", "device")
    encoder, *_ = make_encoders(ENCODER, [], [found])
    known = CLICKS.groupby([ROWS["ad_id"], ROWS["device"]]).agg(["sum", "size"])
    expected = (known["sum"] + found.strength * RATE) / (known["size"] + found.strength)
    rows = ROWS.merge(expected.rename("expected").reset_index(), how="left")
    np.testing.assert_allclose(encoder.encode(ROWS)["rate(ad_id, device)"], rows["expected"], rtol=1e-6)


@pytest.mark.parametrize("row", [0, 17, 1_234, COUNT - 1])
def test_no_row_is_told_of_its_own_reward(row: int) -> None:
    """The prior's strength, one number for a whole column, is all that a row's own reward may move."""
    turned = CLICKS.copy()
    turned[row] = 1 - turned[row]
    found, other = counts_of("noise"), counts_of("noise", clicks=turned)
    other.__dict__["strength"] = found.strength
    encoded = [
        encode_out_of_fold(make_encoders(ENCODER, [each], [])[1:], ROWS)["rate(noise)"] for each in (found, other)
    ]
    own, fold = folds_of(ROWS)[row], folds_of(ROWS)
    assert (encoded[0][fold == own] == encoded[1][fold == own]).all()
    same_value = (ROWS["noise"] == ROWS["noise"][row]) & (fold != own)
    assert (encoded[0][same_value] != encoded[1][same_value]).all()


def test_folds_are_even_and_stable() -> None:
    folds = folds_of(ROWS)
    assert (np.abs(np.bincount(folds, minlength=FOLDS) - COUNT / FOLDS) < 150).all()
    backwards = folds_of(ROWS.iloc[::-1])
    np.testing.assert_array_equal(backwards[::-1], folds)
    assert folds_of(pd.DataFrame({"impression_id": ["abc", "", "ü"]})).tolist() == [2, 1, 2]


def test_counts_are_logarithms_of_occurrences() -> None:
    encoder, *_ = make_encoders(ENCODER, [counts_of("noise")], [])
    occurrences = ROWS["noise"].map(ROWS["noise"].value_counts())
    np.testing.assert_allclose(encoder.encode(ROWS)["count(noise)"], np.log1p(occurrences), rtol=1e-6)


def test_a_cross_is_chosen_where_two_columns_tell_more_than_each() -> None:
    singles = [counts_of(name) for name in ("ad_id", "device", "noise")]
    pairs = [("ad_id", "device"), ("ad_id", "noise"), ("device", "noise")]
    chosen = choose_crosses(singles, [counts_of(*pair) for pair in pairs])
    assert chosen[0].columns == ("ad_id", "device")
    assert chosen[0].information_gain > 100 > max(single.information_gain for single in singles)


def test_noise_has_no_signal_and_is_drawn_to_the_mean() -> None:
    found = counts_of("noise")
    assert found.information_gain < 1
    assert np.ptp(found.rates()) < 0.01
    assert np.ptp(counts_of("ad_id", "device").rates()) > 0.3


def test_dropped_negatives_are_counted_again() -> None:
    found, half = counts_of("ad_id"), counts_of("ad_id", negatives_kept=0.5)
    np.testing.assert_allclose(half.impressions, 2 * found.impressions - found.rewards)
    np.testing.assert_array_equal(half.rewards, found.rewards)


def test_the_prior_is_as_strong_as_the_rates_are_alike() -> None:
    rates = np.random.default_rng(1).beta(0.05 * 400, 0.95 * 400, 3_000)
    rows = np.full(3_000, 2_000)
    rewards = np.random.default_rng(2).binomial(rows, rates)
    assert prior_strength(rows, rewards, 0.05) == pytest.approx(400, rel=0.1)
    assert prior_strength(rows, np.full(3_000, 100), 0.05) > 1e5
    assert shrunken_rates([0, 10], [0, 5], 0.1, 10).tolist() == pytest.approx([0.1, 0.3])
