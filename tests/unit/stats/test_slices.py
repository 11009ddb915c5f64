"""Many slices at once: Holm's correction by hand, ratios of sums against theory, what a comparison can show."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from liftloop.stats.interval import Interval, bootstrap_ratio
from liftloop.stats.multiple import holm
from liftloop.stats.power import minimum_detectable_effect, times_more_rows
from liftloop.stats.slices import log_ratios


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2]) == pytest.approx([0.2])
    assert holm([0.5, 0.9]) == pytest.approx([1, 1])


def test_holm_keeps_the_chance_of_any_error_and_finds_more_than_bonferroni() -> None:
    rng = np.random.default_rng(0)
    errors = np.mean([(holm(rng.random(50)) <= 0.05).any() for _ in range(2_000)])
    assert 0.03 < errors < 0.065
    assert (rng.random((2_000, 50)) <= 0.05).any(axis=1).mean() > 0.9  # without a correction
    step = [0.01, 0.012, 0.04]
    assert (holm(step) <= 0.05).tolist() == [True, True, True]
    assert (3 * np.array(step) <= 0.05).tolist() == [True, True, False]


def test_the_ratio_of_each_slice_and_its_error() -> None:
    rng = np.random.default_rng(1)
    numerator, denominator = rng.exponential(2, 4_000), rng.exponential(1, 4_000)
    values, blocks = np.repeat(["b", "a"], 2_000), np.arange(4_000)
    found = log_ratios(numerator, denominator, values, blocks)
    assert found.names == ["a", "b"]
    assert found.blocks.tolist() == [2_000, 2_000]
    for position, name in enumerate(found.names):
        rows = values == name
        peer = bootstrap_ratio(numerator[rows], denominator[rows], seed=0)
        interval = found.interval(position, 0.95)
        assert interval.estimate == pytest.approx(peer.estimate)
        assert (interval.low, interval.high) == pytest.approx((peer.low, peer.high), rel=0.02)


def test_rows_of_one_block_are_one_observation() -> None:
    rng = np.random.default_rng(2)
    numerator, denominator = rng.exponential(2, 500), np.ones(500)
    alone = log_ratios(numerator, denominator, ["all"] * 500, np.arange(500))
    copies = log_ratios(np.tile(numerator, 9), np.ones(4_500), ["all"] * 4_500, np.tile(np.arange(500), 9))
    assert copies.standard_error == pytest.approx(alone.standard_error)
    assert copies.blocks.tolist() == [500]


def test_p_values_are_those_of_the_distance_to_the_limit() -> None:
    rng = np.random.default_rng(3)
    numerator = rng.exponential(1, 10_000)
    found = log_ratios(numerator, np.ones(10_000), ["all"] * 10_000, np.arange(10_000))
    limit = numerator.mean() * 0.98
    expected = norm.sf(-math.log(0.98) / found.standard_error[0])
    assert found.p_above(limit)[0] == pytest.approx(expected, rel=0.01)
    assert found.p_below(limit)[0] == pytest.approx(1 - expected, rel=0.01)
    assert found.standard_error[0] == pytest.approx(numerator.std() / numerator.mean() / 100, rel=0.001)


def test_one_block_is_sure_of_nothing() -> None:
    found = log_ratios([5, 5, 1, 2], [1, 1, 1, 1], ["a", "a", "b", "b"], [0, 0, 1, 2])
    assert found.p_above(1)[0] == 1
    assert found.p_above(1)[1] < 1


def test_a_slice_without_a_sum_is_refused() -> None:
    with pytest.raises(ValueError, match="every slice needs a numerator and a denominator above 0"):
        log_ratios([1, 1], [1, 0], ["a", "b"], [0, 1])


def test_the_minimum_detectable_effect_is_detected_as_often_as_it_says() -> None:
    rng, rows = np.random.default_rng(4), 400
    first = Interval(0, -1.96 / math.sqrt(rows), 1.96 / math.sqrt(rows))
    effect = minimum_detectable_effect(first, confidence=0.95, power=0.8)
    assert effect == pytest.approx(2.8016 / math.sqrt(rows), rel=1e-3)
    estimates = rng.normal(effect, 1 / math.sqrt(rows), 20_000)
    assert (estimates - 1.96 / math.sqrt(rows) > 0).mean() == pytest.approx(0.8, abs=0.01)


def test_rows_needed_grow_with_the_square_of_the_width() -> None:
    assert times_more_rows(Interval(0, -0.01, 0.01), 0.005) == pytest.approx(16)
    assert times_more_rows(Interval(0, -0.0025, 0.0025), 0.005) == pytest.approx(1)
