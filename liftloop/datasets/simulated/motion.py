"""What moves from day to day: traffic, the level of all click probabilities, and the ads with theirs."""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from liftloop.datasets.simulated.catalogue import ADS
from liftloop.datasets.simulated.draws import FloatArray, IntArray
from liftloop.datasets.simulated.effects import Effects

POSITIONS = 3
_DAYS_UNTIL_REPLACED = 3.0  # mean
_FEWEST_ALIVE = 2  # of the ads that a placement takes


@dataclass(frozen=True)
class Motion:
    """By day from 0, and by slot: the place of an ad in the catalogue, which one ad after another takes."""

    traffic: FloatArray  # (days,), share of the log's impressions, sums to 1
    level: FloatArray  # (days,), multiplies every click probability
    slot_factor: FloatArray  # (days, slots), multiplies the click probabilities of its ad
    is_alive: NDArray[np.bool_]  # (days, slots)
    number: IntArray  # (days, slots), of the ad in its slot, from 0

    def ad_ids(self, day: int) -> NDArray[np.str_]:
        """The names of the day's ads, shape (slots,)."""
        numbers = self.number[day]
        return np.array(
            [name if number == 0 else f"{name}-{number}" for name, number in zip(ADS, numbers, strict=True)]
        )


def build_motion(effects: Effects, seed: int, start: date, days: int, eligible_ads: IntArray) -> Motion:
    """The motion of a seed; the first days are the same for any number of days.

    Args:
        eligible_ads: shape (placements, slots of one placement).
    """
    weekday = np.array([(start + timedelta(days=day)).weekday() for day in range(days)])
    traffic = np.where(weekday >= 5, 1 - effects.weekend_traffic, 1.0)
    of_weekday = _rng(seed, 0).normal(size=7)[weekday]
    shocks = _rng(seed, 1).normal(size=days)
    ends, begins = (_rng(seed, part).random((days, len(ADS))) for part in (2, 4))
    is_alive, number = _lives(effects, ends, begins, eligible_ads)
    return Motion(
        traffic=traffic / traffic.sum(),
        level=_factor(effects.weekday_clicks, of_weekday) * _factor(effects.day_shock, shocks),
        slot_factor=_factor(effects.ad_drift, _drift(effects, _rng(seed, 3), number)),
        is_alive=is_alive,
        number=number,
    )


def _rng(seed: int, part: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(3, part)))


def _factor(spread: float, normal: FloatArray) -> FloatArray:
    """Lognormal factors with mean 1."""
    return np.asarray(np.exp(spread * normal - spread**2 / 2))


def _drift(effects: Effects, rng: np.random.Generator, number: IntArray) -> FloatArray:
    """Standard normal, correlated from day to day; a new ad in a slot starts over."""
    kept = np.exp(-1 / effects.ad_drift_days)
    drift = rng.normal(size=number.shape)
    for day in range(1, len(drift)):
        goes_on = kept * drift[day - 1] + np.sqrt(1 - kept**2) * drift[day]
        drift[day] = np.where(number[day] == number[day - 1], goes_on, drift[day])
    return np.asarray(drift)


def _lives(
    effects: Effects, ends: FloatArray, begins: FloatArray, eligible_ads: IntArray
) -> tuple[NDArray[np.bool_], IntArray]:
    """Which slots hold an ad that has begun and not ended, and how many ads each had before.

    Args:
        ends, begins: uniform draws that decide it, shape (days, slots).
    """
    is_alive, number = np.ones(ends.shape, dtype=bool), np.zeros(ends.shape, dtype=np.int64)
    if not effects.ad_lifetime_days:
        return is_alive, number
    is_last, is_first = ends * effects.ad_lifetime_days < 1, begins * _DAYS_UNTIL_REPLACED < 1
    for day in range(1, len(ends)):
        is_alive[day] = np.where(is_alive[day - 1], ~is_last[day], is_first[day])
        for slots in eligible_ads:
            missing = _FEWEST_ALIVE - int(is_alive[day, slots].sum())
            is_alive[day, slots[~is_alive[day, slots]][: max(missing, 0)]] = True
        number[day] = number[day - 1] + (is_alive[day] & ~is_alive[day - 1])
    return is_alive, number
