"""How often the evaluation is wrong about a champion's health: it alarms without a fault, or misses one.

    python -m bench.degraded [--days 400] [--runs 60]

Publishers have 450 rewards an hour. The click rate of everybody moves from hour to hour by 15 % and from day to day by
10 %, and the model knows nothing of it. Its mean prediction moves by 5 % an hour and 1 % a day, with the mix of
impressions. Impressions are drawn and scored, summed by hour, and judged by the evaluation's own charts and bounds.

False alarms are the faults that begin without a cause, in hourly evaluations after the first two weeks. To be found, a
fault begins at some hour after five weeks, and anything that the evaluations after it find, counts. A world whose level
moves by 10 % cannot be told from an ordinary day that moves as much, so there it is measured what is reached, and when.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
import pandas as pd
from scipy.stats import binomtest, chi2

from bench.degraded_worlds import LOST_RANKING, START, VERSION, Fault, World, draw_hours
from bench.gate_worlds import CONTRACT
from bench.measure import Case, console, report
from liftloop.evaluation.course import HISTORY, Course
from liftloop.evaluation.health import judge_health
from liftloop.evaluation.records import Fault as Found
from liftloop.evaluation.records import Point

MOST_FALSE, LEAST_FOUND = 1.0, 0.9  # in 100 days; share
WARMUP_DAYS, STRETCH_DAYS = 14, 100
DAY = timedelta(days=1)
_Answer = TypeVar("_Answer")
WORLDS = {
    "hours move by 15 %, days by 10 %": World(),
    "and a rhythm of hours and weekends": World(rhythm=0.2),
    "and a season of ± 5 %": World(season=0.05),
    "and a season of ± 10 %": World(season=0.1),
}
HIGH, LOW, UNRANKED, WORSE_WORLD = (
    Fault(predicted=1.1),
    Fault(predicted=1 / 1.1),
    Fault(known=LOST_RANKING),
    Fault(level=1 / 1.1),
)
FAULTS = {
    "predictions 10 % too high": (World(), HIGH),
    "predictions 10 % too low": (World(), LOW),
    "predictions 10 % too high, and move by 2 % a day": (World(mix_daily=0.02), HIGH),
    "10 % of the ranking lost": (World(), UNRANKED),
    "the world 10 % lower, days move by 0 %": (World(daily=0.0), WORSE_WORLD),
    "the world 10 % lower, days move by 5 %": (World(daily=0.05), WORSE_WORLD),
    "the world 10 % lower, days move by 10 %": (World(), WORSE_WORLD),
}
HORIZONS = (1, 3, 7)  # days


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--days", type=int, default=400)
    parser.add_argument("--runs", type=int, default=60)
    options = parser.parse_args()
    stretches = max(round(options.days / STRETCH_DAYS), 1)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        cases = [_false(pool, name, world, stretches) for name, world in WORLDS.items()]
        cases += [_found(pool, name, *each, options.runs) for name, each in FAULTS.items()]
    report("degraded", cases, days=stretches * STRETCH_DAYS, runs=options.runs)


def _map(pool: ProcessPoolExecutor, run: Callable[[int], _Answer], runs: int) -> list[_Answer]:
    return list(pool.map(run, range(runs)))


def _false(pool: ProcessPoolExecutor, name: str, world: World, stretches: int) -> Case:
    """Prints the alarms in 100 days with the exact Poisson interval, and the names of the faults."""
    alarms = [each for stretch in _map(pool, partial(false_alarms, world), stretches) for each in stretch]
    low, high = chi2.ppf(0.025, 2 * len(alarms)) / 2 if alarms else 0.0, chi2.ppf(0.975, 2 * len(alarms) + 2) / 2
    rate, low, high = (count / stretches * 100 / STRETCH_DAYS for count in (len(alarms), low, high))
    counts = ", ".join(f"{fault} {count}" for fault, count in Counter(alarms).most_common())
    console.print(f"{name}: {rate:.2f} [{low:.2f}, {high:.2f}] in 100 of {stretches * STRETCH_DAYS} days; {counts}")
    return Case(f"false alarms in 100 days: {name}", rate, MOST_FALSE, 1.0, "")


def _found(pool: ProcessPoolExecutor, name: str, world: World, fault: Fault, runs: int) -> Case:
    days = _map(pool, partial(days_until_found, world, fault), runs)
    share, *_ = [_share(f"{name}, found in {24 * limit} h", [day <= limit for day in days]) for limit in HORIZONS]
    return Case(f"{name}: found in 24 h", share, LEAST_FOUND, 1.0, "share", is_rate=True)


def _share(what: str, hits: Sequence[bool]) -> float:
    test = binomtest(sum(hits), len(hits))
    interval = test.proportion_ci(method="wilson")
    console.print(f"{what}: {test.statistic:.0%} [{interval.low:.0%}, {interval.high:.0%}] of {len(hits)}")
    return float(test.statistic)


@dataclass
class Monitor:
    """The evaluations of one source, one after the other, as if each was read from the record."""

    hours: pd.DataFrame
    points: dict[str, list[tuple[str | None, Point]]] = field(default_factory=lambda: defaultdict(list))
    disturbed: dict[str, dict[datetime, datetime]] = field(default_factory=lambda: defaultdict(dict))
    ongoing: dict[str, Found] = field(default_factory=dict)

    def evaluate(self, hour: int) -> list[str]:
        """The names of the faults that an evaluation of the hours before `hour` is the first to find."""
        until = (START + pd.Timedelta(hours=hour)).to_pydatetime()
        read = self.hours.iloc[max(hour - 24 - HISTORY // timedelta(hours=1), 0) : hour]
        course = Course(read, self.points, self.disturbed, self.ongoing)
        judged = judge_health(CONTRACT, course, VERSION, until - timedelta(hours=1), until)
        for point in judged.points:
            self.points[point.chart] = [
                each for each in self.points[point.chart] if each[1].until > until - HISTORY
            ] + [(VERSION, point)]
        for fault in judged.faults:
            self.disturbed[fault.name][fault.since] = until
        self.ongoing = {fault.name: fault for fault in judged.faults}
        return [fault.name for fault in judged.faults if fault.is_new]


def false_alarms(world: World, seed: int) -> list[str]:
    """The faults that begin in one stretch of hourly evaluations."""
    hours = draw_hours(world, Fault(), WARMUP_DAYS + STRETCH_DAYS, np.random.default_rng([seed, 1]))
    monitor = Monitor(hours)
    begun = [(hour, monitor.evaluate(hour)) for hour in range(24, len(hours) + 1)]
    return [name for hour, names in begun if hour > 24 * WARMUP_DAYS for name in names]


def days_until_found(world: World, fault: Fault, seed: int) -> float:
    """Whole days from a fault's beginning to its alarm; infinite if the last evaluation has not found it.

    The evaluations are a day apart and one ends where the fault begins, so that each that may find it sees whole days.
    """
    rng = np.random.default_rng([seed, 2])
    begins = 24 * (HISTORY // DAY) + int(rng.integers(24))
    monitor = Monitor(draw_hours(world, replace(fault, hour=begins), HISTORY // DAY + HORIZONS[-1] + 1, rng))
    for hour in range(begins % 24 + 24, begins + 1, 24):
        monitor.evaluate(hour)
    for day in range(1, HORIZONS[-1] + 1):
        if monitor.evaluate(begins + 24 * day):
            return day
    return float("inf")


if __name__ == "__main__":
    main()
