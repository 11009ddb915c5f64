"""Simulated publishers for the benchmark of the evaluation: hours whose truth, and whose fault, is known."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from bench.gate_worlds import CONTRACT
from liftloop.evaluation.hours import hour_sums
from liftloop.evaluation.rewards import RewardSample
from liftloop.stats.columns import Floats

START = pd.Timestamp("2026-03-02", tz="UTC")
VERSION = "simulated"
REWARDS, RATE, KEPT = 450, 0.02, 0.1  # in an hour on average; per impression; share of the unrewarded in the log
SPREAD = 0.74  # of the true rate between impressions, on the log scale: the area under the ROC curve is 0.70
LOST_RANKING = float(ndtri(0.5 + 0.9 * (ndtr(SPREAD / sqrt(2)) - 0.5)) * sqrt(2) / SPREAD)  # what of it a model knows
SEASON_DAYS = 120


@dataclass(frozen=True)
class Fault:
    """What differs from some hour on; the defaults are no fault."""

    hour: int = 10**9
    predicted: float = 1.0  # factor of all predictions
    level: float = 1.0  # factor of the true rate
    known: float = 1.0  # correlation of what ranks impressions with the truth


@dataclass(frozen=True)
class World:
    """Movements are standard deviations on the log scale: of the rate of everybody, and of the mix of impressions.

    The model knows the mix and nothing of what moves everybody; of a rhythm, it knows half.
    """

    hourly: float = 0.15
    daily: float = 0.1
    mix_hourly: float = 0.05
    mix_daily: float = 0.01
    rhythm: float = 0.0  # of the rate by hour of the day, and at the weekend; traffic has one, too
    season: float = 0.0  # a slow wave of the rate


def draw_hours(world: World, fault: Fault, days: int, rng: np.random.Generator) -> pd.DataFrame:
    """The hours of so many days, as `hours_on_record` returns them."""
    hour = np.arange(24 * days)
    moved = _movement(rng, world.hourly, world.daily, days)
    mix = _movement(rng, world.mix_hourly, world.mix_daily, days)
    wave = np.sin(2 * np.pi * hour / 24)
    rhythm = world.rhythm * (wave + np.where(hour // 24 % 7 >= 5, 0.75, 0))
    season = world.season * np.sin(2 * np.pi * hour / (24 * SEASON_DAYS))
    traffic = np.exp(4 * world.rhythm * wave)
    promised = mix + rhythm / 2
    true = moved + mix + rhythm + season + np.where(hour >= fault.hour, np.log(fault.level), 0)
    sums = []
    for day in np.split(hour, days):
        sums += _day_sums(day, traffic[day], promised[day], true[day], fault, rng)
    return pd.DataFrame(sums).assign(version=VERSION)


def _movement(rng: np.random.Generator, hourly: float, daily: float, days: int) -> Floats:
    """Factors of mean 1, as logarithms, of each hour."""
    spread = hourly**2 / 2 + daily**2 / 2
    return rng.normal(0, hourly, 24 * days) + np.repeat(rng.normal(0, daily, days), 24) - spread


def _day_sums(
    hour: np.ndarray, traffic: Floats, promised: Floats, true: Floats, fault: Fault, rng: np.random.Generator
) -> list[dict[str, object]]:
    """One day's impressions, drawn rewarded and unrewarded, because a log-normal rate only shifts the rewarded ones."""
    rewarded = rng.poisson(REWARDS * traffic * np.exp(true))
    others = rng.poisson(KEPT * (REWARDS * traffic / RATE - rewarded).clip(0))
    reward = np.repeat([1.0, 0.0], [rewarded.sum(), others.sum()])
    place = np.concatenate([np.repeat(np.arange(24), rewarded), np.repeat(np.arange(24), others)])
    affinity = rng.normal(SPREAD * reward)
    is_faulty = hour[place] >= fault.hour
    known = np.where(is_faulty, fault.known, 1.0)
    seen = known * affinity + np.sqrt(1 - known**2) * rng.normal(size=len(reward))
    spread = SPREAD * known
    predicted = RATE * np.exp(promised[place] + spread * seen - spread**2 / 2)
    predicted *= np.where(is_faulty, fault.predicted, 1.0)
    sample = RewardSample(reward, place, CONTRACT.gate, seed=7, negatives_kept=KEPT)
    times = pd.Series(START + pd.to_timedelta(hour[place], unit="h"))
    return [each.model_dump() for each in hour_sums(times, sample, predicted.clip(0, 1), represented=len(reward))]
