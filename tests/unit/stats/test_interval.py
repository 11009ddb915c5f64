"""Bootstrap intervals: width and coverage against theory, whole blocks, refusals."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from liftloop.stats import interval
from liftloop.stats.interval import Interval, bootstrap_mean, bootstrap_ratio
from liftloop.stats.scoring import calibration_ratio, log_loss_per_row, normalized_entropy


def half_width(found: Interval) -> float:
    return (found.high - found.low) / 2


def test_interval_formats_its_three_numbers_alike() -> None:
    found = Interval(0.0123, 0.01, 0.02)
    assert f"{found:.1%}" == "1.2% [1.0%, 2.0%]"
    assert str(found) == "0.0123 [0.01, 0.02]"


@pytest.mark.parametrize("limits", [(0.2, 0.3), (0.0, 0.05), (math.nan, 1.0)])
def test_interval_contains_its_estimate(limits: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="is not within"):
        Interval(0.1, *limits)


def test_estimates_by_hand() -> None:
    assert bootstrap_mean([1, 2, 6], seed=0).estimate == 3
    assert bootstrap_ratio([1, 2, 6], [1, 1, 4], seed=0).estimate == 1.5


def test_constant_values_leave_no_doubt() -> None:
    found = bootstrap_mean(np.full(700, 0.1), seed=0)
    assert found.low == pytest.approx(0.1, rel=1e-12)
    assert found.high == pytest.approx(0.1, rel=1e-12)


@pytest.mark.parametrize("rows", [500, 30_000])  # each row a unit; rows pooled
def test_half_width_of_a_mean_is_that_of_theory(rows: int) -> None:
    values = np.random.default_rng(1).normal(size=rows)
    widths = [half_width(bootstrap_mean(values, seed=seed, resamples=400)) for seed in range(10)]
    assert np.mean(widths) == pytest.approx(1.96 * values.std() / math.sqrt(rows), rel=0.05)


def test_more_confidence_is_wider() -> None:
    values = np.random.default_rng(1).normal(size=300)
    narrow, wide = (half_width(bootstrap_mean(values, seed=0, confidence=level)) for level in (0.8, 0.99))
    assert wide / narrow == pytest.approx(2.576 / 1.282, rel=0.15)


def test_blocks_are_resampled_whole() -> None:
    effects = np.random.default_rng(2).normal(size=100)
    values, blocks = np.repeat(effects, 50), np.repeat(np.arange(100), 50)
    clustered, alone = bootstrap_mean(values, blocks=blocks, seed=0), bootstrap_mean(values, seed=0)
    assert half_width(clustered) / half_width(alone) == pytest.approx(math.sqrt(50), rel=0.15)


def test_many_blocks_are_pooled_whole() -> None:
    effects = np.random.default_rng(2).normal(size=6_000)
    found = bootstrap_mean(np.repeat(effects, 5), blocks=np.repeat(np.arange(6_000), 5), seed=0)
    assert half_width(found) == pytest.approx(1.96 * effects.std() / math.sqrt(6_000), rel=0.15)


def test_names_of_blocks_do_not_matter() -> None:
    values, blocks = np.arange(12.0), np.arange(12) % 4
    names = np.array(["a", "b", "c", "d"])[blocks]
    by_number = bootstrap_mean(values, blocks=blocks, seed=0)
    assert bootstrap_mean(values, blocks=names, seed=0) == by_number
    assert bootstrap_mean(values, blocks=names.astype(object), seed=0) == by_number


def test_seed_decides_and_chunks_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).normal(size=200)
    first = bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=2) != first
    monkeypatch.setattr(interval, "CHUNK_RESAMPLES", 7)
    again = bootstrap_mean(values, seed=1)
    assert (again.low, again.high) == pytest.approx((first.low, first.high), rel=1e-12)


@pytest.mark.parametrize("blocks", [6, 12, 200])
def test_mean_is_covered_also_with_few_blocks(blocks: int) -> None:
    rng, repetitions = np.random.default_rng(4), 300
    hits = 0
    for seed in range(repetitions):
        found = bootstrap_mean(rng.normal(size=blocks), seed=seed, resamples=200)
        hits += found.low <= 0 <= found.high
    assert hits >= binom.ppf(1e-4, repetitions, 0.93)
    assert hits <= binom.ppf(1 - 1e-4, repetitions, 0.97)


def test_normalized_entropy_is_a_ratio_of_two_losses() -> None:
    rng = np.random.default_rng(5)
    probability = rng.beta(1, 9, 3_000)
    reward = (rng.random(3_000) < probability).astype(float)
    baseline = np.full(3_000, reward.mean())
    found = bootstrap_ratio(log_loss_per_row(reward, probability), log_loss_per_row(reward, baseline), seed=0)
    assert found.estimate == pytest.approx(normalized_entropy(reward, probability))
    assert found.high < 1
    assert bootstrap_ratio(probability, reward, seed=0).estimate == pytest.approx(
        calibration_ratio(reward, probability)
    )


def test_limit_is_infinite_where_the_denominator_may_vanish() -> None:
    one_click_in_a_hundred = np.arange(100) == 0
    found = bootstrap_ratio(np.full(100, 0.01), one_click_in_a_hundred, seed=0)  # no click in 37 % of resamples
    assert found.estimate == pytest.approx(1)
    assert found.high == math.inf
    assert 0 < found.low < 1


def test_undefined_resamples_widen_both_limits() -> None:
    found = bootstrap_ratio([2.0] + [0.0] * 99, [1.0] + [0.0] * 99, seed=0)
    assert found == Interval(2, -math.inf, math.inf)


@pytest.mark.parametrize(
    ("numerator", "denominator", "options", "message"),
    [
        ([], [], {}, "numerator: .* at least one row"),
        ([1, np.nan], [1, 1], {}, "numerator: 1 of 2 rows are not finite, first nan at row 1"),
        ([1, 1], [1, np.inf], {}, "denominator: 1 of 2 rows are not finite, first inf at row 1"),
        ([1, 1], [1, -2], {}, "denominator: 1 of 2 rows are not 0 or more, first -2.0 at row 1"),
        ([1, 1], [0, 0], {}, "denominator: all 2 rows are 0, so the ratio is undefined"),
        ([1, 1], [1, 1, 1], {}, "lengths differ: numerator has 2, denominator has 3"),
        ([1], [1], {}, "1 block in 1 rows: an interval needs at least two blocks"),
        ([1, 1], [1, 1], {"blocks": ["u", "u"]}, "1 block in 2 rows"),
        ([1, 1], [1, 1], {"blocks": [1, 2, 3]}, r"blocks: expected one label for each of 2 rows, got shape \(3,\)"),
        ([1, 1], [1, 1], {"blocks": ["u", None]}, "blocks: labels must be .* none missing"),
        ([1, 1], [1, 1], {"blocks": [1, np.nan]}, "blocks: labels must be .* none missing"),
        ([1, 1], [1, 1], {"confidence": 95}, "confidence=95: must be between 0 and 1"),
        ([1, 1], [1, 1], {"resamples": 0}, "resamples=0: at least 1"),
    ],
)
def test_refusals(numerator: list[float], denominator: list[float], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_ratio(numerator, denominator, seed=0, **options)
