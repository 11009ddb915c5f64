"""Vectorized statistics against the plainest Python that says the same."""

import math
from statistics import fmean

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import log_expit, logit
from scipy.stats import bootstrap, norm, t

from liftloop.stats.calibrate import fit_platt
from liftloop.stats.interval import bootstrap_mean, bootstrap_ratio
from liftloop.stats.multiple import holm
from liftloop.stats.off_policy import LoggedFeedback, effective_sample_size, self_normalized_value
from liftloop.stats.scoring import area_under_roc, log_loss, normalized_entropy, reliability_table
from liftloop.stats.slices import log_ratios

few = settings(max_examples=60, deadline=None)
shares = st.one_of(st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.floats(0, 1))
scored_rows = st.lists(st.tuples(st.integers(0, 1), shares), min_size=2, max_size=40)
amounts = st.floats(-100, 100, allow_subnormal=False)
blocked_rows = st.lists(st.tuples(amounts, st.floats(0.1, 100), st.integers(0, 5)), min_size=2, max_size=40)

Rows = list[tuple[int, float]]
BlockedRows = list[tuple[float, float, int]]


def columns(rows: Rows) -> tuple[list[int], list[float]]:
    return [reward for reward, _ in rows], [probability for _, probability in rows]


def has_both(rows: Rows) -> bool:
    return {reward for reward, _ in rows} == {0, 1}


def naive_log_loss(rows: Rows) -> float:
    floored = [(reward, min(max(probability, 1e-12), 1 - 1e-12)) for reward, probability in rows]
    return fmean(-math.log(probability if reward else 1 - probability) for reward, probability in floored)


@few
@given(scored_rows)
def test_log_loss(rows: Rows) -> None:
    assert log_loss(*columns(rows)) == pytest.approx(naive_log_loss(rows), rel=1e-4, abs=1e-9)


@few
@given(scored_rows.filter(has_both))
def test_normalized_entropy(rows: Rows) -> None:
    rate = fmean(reward for reward, _ in rows)
    entropy = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
    assert normalized_entropy(*columns(rows)) == pytest.approx(naive_log_loss(rows) / entropy, rel=1e-4, abs=1e-9)


@few
@given(scored_rows.filter(has_both))
def test_area_under_roc_counts_pairs(rows: Rows) -> None:
    clicked, unclicked = ([score for reward, score in rows if reward == wanted] for wanted in (1, 0))
    wins = [(high > low) + 0.5 * (high == low) for high in clicked for low in unclicked]
    assert area_under_roc(*columns(rows)) == pytest.approx(fmean(wins))


@few
@given(scored_rows, st.integers(1, 12))
def test_reliability_bins_follow_the_average_rank(rows: Rows, bins: int) -> None:
    members: dict[int, list[tuple[int, float]]] = {}
    for reward, probability in rows:
        below = sum(other < probability for _, other in rows)
        equal = sum(other == probability for _, other in rows)
        members.setdefault(math.floor((below + equal / 2) / len(rows) * bins), []).append((reward, probability))
    table = reliability_table(*columns(rows), bins)
    assert [each.rows for each in table] == [len(members[key]) for key in sorted(members)]
    for each, key in zip(table, sorted(members), strict=True):
        assert each.mean_reward == pytest.approx(fmean(reward for reward, _ in members[key]))
        assert each.mean_probability == pytest.approx(fmean(probability for _, probability in members[key]))


@few
@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=40))
def test_effective_sample_size(weights: list[float]) -> None:
    expected = math.fsum(weights) ** 2 / math.fsum(weight**2 for weight in weights)
    assert effective_sample_size(weights) == pytest.approx(expected)
    assert 1 - 1e-9 <= effective_sample_size(weights) <= len(weights) * (1 + 1e-9)


@few
@given(st.lists(st.sampled_from([0.001, 0.004, 0.01, 0.02, 0.05, 0.3, 1.0]), min_size=1, max_size=12))
def test_holm_rejects_step_by_step(p_values: list[float]) -> None:
    for alpha in (0.011, 0.052):
        rejected = set()
        for step, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
            if p_values[place] > alpha / (len(p_values) - step):
                break
            rejected.add(place)
        assert set(np.flatnonzero(holm(p_values) <= alpha)) == rejected


@few
@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.1, 100), st.integers(0, 2), st.integers(0, 5)), min_size=2))
def test_log_ratios_by_slice_and_block(rows: list[tuple[float, float, int, int]]) -> None:
    numerator, denominator, values, blocks = zip(*rows, strict=True)
    found = log_ratios(numerator, denominator, values, blocks)
    count = len(set(blocks))
    for position, name in enumerate(found.names):
        members = [row for row in rows if str(row[2]) == name]
        top, bottom = math.fsum(row[0] for row in members), math.fsum(row[1] for row in members)
        assert found.estimate[position] == pytest.approx(math.log(top / bottom))
        parts = [
            math.fsum(row[0] / top - row[1] / bottom for row in members if row[3] == block) for block in set(blocks)
        ]
        error = math.sqrt(math.fsum(part**2 for part in parts) * count / max(count - 1, 1))
        assert found.standard_error[position] == pytest.approx(error, abs=1e-9)
        assert found.blocks[position] == len({row[3] for row in members})


def naive_limits(rows: BlockedRows, is_blocked: bool, resamples: int, seed: int) -> tuple[float, float]:
    """Copies rows into every resample, sorts the ratios and reads off the limits."""
    if is_blocked:
        units = [[row for row in rows if row[2] == block] for block in sorted({block for _, _, block in rows})]
    else:
        units = [[row] for row in sorted(rows, key=lambda row: (row[1], row[0]))]
    ratios = []
    for places in np.random.default_rng(seed).integers(len(units), size=(resamples, len(units))):
        drawn = [row for place in places for row in units[place]]
        ratios.append(math.fsum(row[0] for row in drawn) / math.fsum(row[1] for row in drawn))
    ratios.sort()
    tail = norm.cdf(-t.ppf(0.975, len(units) - 1) * math.sqrt(len(units) / (len(units) - 1)))
    return ratios[math.floor(tail * (resamples - 1))], ratios[math.ceil((1 - tail) * (resamples - 1))]


@few
@given(blocked_rows, st.booleans())
def test_bootstrap_resamples_as_copying_rows_would(rows: BlockedRows, is_blocked: bool) -> None:
    assume(not is_blocked or len({block for _, _, block in rows}) > 1)
    numerator, denominator, blocks = zip(*rows, strict=True)
    found = bootstrap_ratio(numerator, denominator, blocks=blocks if is_blocked else None, resamples=400, seed=1)
    low, high = naive_limits(rows, is_blocked, resamples=400, seed=1)
    assert found.estimate == pytest.approx(math.fsum(numerator) / math.fsum(denominator), rel=1e-9, abs=1e-9)
    assert found.low == pytest.approx(min(low, found.estimate), rel=1e-9, abs=1e-9)
    assert found.high == pytest.approx(max(high, found.estimate), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("is_blocked", [False, True])
def test_row_order_does_not_matter(is_blocked: bool) -> None:
    rng = np.random.default_rng(0)
    numerator, denominator, user = rng.normal(size=5_000), rng.random(5_000), rng.integers(0, 3_000, 5_000)
    order = rng.permutation(5_000)
    first, second = (
        bootstrap_ratio(numerator[rows], denominator[rows], blocks=user[rows] if is_blocked else None, seed=1)
        for rows in (np.arange(5_000), order)
    )
    assert (second.estimate, second.low, second.high) == pytest.approx((first.estimate, first.low, first.high))


def test_pooled_rows_give_the_interval_of_scipy() -> None:
    values = np.random.default_rng(0).exponential(size=6_000)
    peer = bootstrap((values,), np.mean, n_resamples=2_000, method="percentile", batch=50, rng=0).confidence_interval
    found = bootstrap_mean(values, resamples=2_000, seed=0)
    assert (found.low, found.high) == pytest.approx((peer.low, peer.high), abs=0.15 * (peer.high - peer.low))


@few
@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0.01, 1), st.floats(0.01, 1)), min_size=2, max_size=30))
def test_self_normalized_value(rows: list[tuple[float, float, float]]) -> None:
    reward, propensity, target = (np.array(each) for each in zip(*rows, strict=True))
    value = self_normalized_value(LoggedFeedback(reward, propensity, target), resamples=20, seed=0).estimate
    weighted = math.fsum(r * new / old for r, old, new in rows)
    assert value == pytest.approx(weighted / math.fsum(new / old for _, old, new in rows))
    assert reward.min() - 1e-9 <= value <= reward.max() + 1e-9


@few
@given(scored_rows.filter(has_both), st.floats(0, 3), st.floats(-3, 3))
def test_no_line_fits_better_than_platt(rows: Rows, slope: float, shift: float) -> None:
    reward, probability = (np.array(each) for each in columns(rows))
    targets = np.where(reward == 1, (reward.sum() + 1) / (reward.sum() + 2), 1 / ((1 - reward).sum() + 2))
    found = fit_platt(reward, probability)
    logits = logit(np.clip(probability, 1e-12, 1 - 1e-12))

    def loss(slope: float, intercept: float) -> float:
        score = slope * logits + intercept
        return float(np.mean(-targets * log_expit(score) - (1 - targets) * log_expit(-score)))

    best = loss(found.slope, found.intercept)
    assert best <= loss(slope, shift) + 1e-9
    assert best <= loss(found.slope * slope, found.intercept + shift * 0.01) + 1e-9
