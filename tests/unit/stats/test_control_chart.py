"""The control chart, against a plain reading of its definition, and in worlds whose shift is known."""

import math

import numpy as np
import pytest
from scipy.special import ndtri

from liftloop.stats.control_chart import (
    FALSE_ALARM,
    MINIMUM_DAYS,
    SMOOTHING,
    Hourly,
    Shift,
    Signal,
    expected,
    shift,
    signal,
)

WEEK = 168


def hourly(hours: int, *, level: float = 0.5, series: int = 0, first: int = 0, rhythm: float = 0.0) -> Hourly:
    hour = np.arange(first, first + hours)
    denominator = 100.0 + hour % 7
    ratio = level * np.exp(rhythm * np.sin(2 * np.pi * hour / 24) + rhythm * (hour // 24 % 7 >= 5))
    return Hourly(
        hour,
        np.full(hours, series, dtype=np.intp),
        (ratio * denominator).astype(np.float64),
        denominator.astype(np.float64),
    )


def joined(*parts: Hourly) -> Hourly:
    names = ("hour", "series", "numerator", "denominator")
    return Hourly(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def expected_plainly(past: Hourly, now: Hourly) -> list[float]:
    """As the docstring of `expected` has it, hour by hour."""
    rows = list(zip(past.hour, past.series, past.numerator, past.denominator, strict=True))

    def ratio(pairs: list[tuple[float, float]]) -> float:
        return sum(above for above, _ in pairs) / sum(below for _, below in pairs) if pairs else 1.0

    level = {each: ratio([(n, d) for _, s, n, d in rows if s == each]) for each in past.series}
    fitted = [d * level[s] for _, s, _, d in rows]
    rhythm = [1.0] * WEEK
    for period in (24, WEEK):
        factor = []
        for cell in range(period):
            pairs = [(row[2], below) for row, below in zip(rows, fitted, strict=True) if row[0] % period == cell]
            factor.append((len(pairs) * ratio(pairs) + 1) / (len(pairs) + 1))
        fitted = [below * factor[row[0] % period] for row, below in zip(rows, fitted, strict=True)]
        rhythm = [each * factor[place % period] for place, each in enumerate(rhythm)]
    own = [(n, d * rhythm[h % WEEK]) for h, s, n, d in rows if s == now.series[0]]
    return [ratio(own) * d * rhythm[h % WEEK] for h, d in zip(now.hour, now.denominator, strict=True)]


def test_the_expectation_is_that_of_a_plain_reading() -> None:
    rng = np.random.default_rng(3)
    past = joined(hourly(250, level=0.4), hourly(80, level=0.6, series=1, first=250))
    past = Hourly(past.hour, past.series, past.numerator * rng.lognormal(0, 0.2, 330), past.denominator)
    now = hourly(24, level=0.6, series=1, first=330)
    assert expected(past, now) == pytest.approx(expected_plainly(past, now))


def test_a_rhythm_seen_for_weeks_is_no_shift() -> None:
    series = hourly(5 * WEEK + 24, rhythm=0.3)
    found = shift(series.where(series.hour < 5 * WEEK), series.where(series.hour >= 5 * WEEK))
    assert found is not None
    assert abs(found.value) < 0.02
    assert found.days == 35
    flat = shift(hourly(24), hourly(24, rhythm=0.3, first=24))
    assert flat is not None
    assert max(flat.thirds) > 0.15


def test_another_series_lends_its_rhythm_and_not_its_level() -> None:
    past = joined(hourly(4 * WEEK, level=0.9, rhythm=0.3), hourly(48, level=0.3, series=1, first=4 * WEEK, rhythm=0.3))
    now = hourly(24, level=0.3 * 1.1, series=1, first=4 * WEEK + 48, rhythm=0.3)
    found = shift(past, now)
    assert found is not None
    assert found.value == pytest.approx(math.log(1.1), abs=0.03)
    assert found.days == 2


@pytest.mark.parametrize(
    "now", [hourly(24, series=1, first=48), hourly(24, level=0.0, first=48), hourly(0)], ids=["new", "zero", "empty"]
)
def test_there_is_no_shift_without_a_past_or_a_sum(now: Hourly) -> None:
    assert shift(hourly(48), now) is None


def day(value: float, thirds: tuple[float, ...] | None = None, days: float = 1e9) -> Shift:
    return Shift(math.exp(value), 1.0, thirds or (value, value, value), days)


PAST = [day(value) for value in (0.1, -0.1) * 10]


def test_scores_are_in_standard_deviations_of_past_days() -> None:
    found = signal(day(0.3), [day(0.1), day(-0.2)], PAST)
    assert found is not None
    assert found.score == pytest.approx(3)
    weights = [(1 - SMOOTHING) ** lag for lag in range(3)]
    mean = sum(weight * score for weight, score in zip(weights, (3, 1, -2), strict=True))
    assert found.smoothed == pytest.approx(mean / math.sqrt(sum(weight**2 for weight in weights)))
    wider = signal(day(0.3, days=1), [], PAST)
    assert wider is not None
    assert wider.score == pytest.approx(3 / math.sqrt(2))


def test_the_limit_is_wider_the_fewer_days_there_are() -> None:
    limits = []
    for days in (MINIMUM_DAYS, 14, 35, 10_000):
        found = signal(day(0), [], (PAST * 1_000)[:days])
        assert found is not None
        limits.append(found.limit)
    assert limits == sorted(limits, reverse=True)
    assert limits[-1] == pytest.approx(-ndtri(FALSE_ALARM), rel=1e-3)
    assert signal(day(9), [], PAST[: MINIMUM_DAYS - 1]) is None


def test_a_day_beyond_the_limit_is_an_alarm_on_its_side_alone() -> None:
    found = signal(day(-0.6), [], PAST)
    assert found is not None
    assert found.is_beyond(-1)
    assert not found.is_beyond(1)


def test_one_third_of_a_day_is_no_alarm() -> None:
    found = signal(day(0.6, thirds=(1.5, 0.1, 0.1)), [day(0)] * 5, PAST)
    assert found is not None
    assert found.score > found.limit
    assert not found.is_beyond(1)


def test_a_small_shift_that_lasts_is_an_alarm_and_a_large_one_is_none_when_it_is_over() -> None:
    lasting = signal(day(0.25), [day(0.25)] * 4, PAST)
    assert lasting is not None
    assert lasting.score < lasting.limit
    assert lasting.is_beyond(1)
    over = signal(day(0.05), [day(5.0)] * 9, PAST)
    assert over is not None
    assert over.smoothed == over.score == pytest.approx(0.5)
    begun = signal(day(5.0), [day(0.1)], PAST)
    assert begun is not None
    assert begun.smoothed == pytest.approx(1)
    alone = signal(day(5.0), [], PAST)
    assert alone is not None
    assert alone.smoothed == 0


def test_a_share_of_the_limit_keeps_a_fault_alive() -> None:
    found = Signal(score=2.5, smoothed=0.5, limit=4.0, is_persistent=True)
    assert not found.is_beyond(1)
    assert found.is_beyond(1, 0.5)
