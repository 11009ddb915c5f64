"""How often the gate is wrong: it promotes what is no better, refuses what is, or trusts an interval too much.

    python -m bench.gate [--runs 500]

Each run draws a new hold-out of IMPRESSIONS impressions by USERS users, whose click probabilities are known, and judges
a challenger against a champion by all the gate's own checks of predictions. Both predict the true probability with an
error of their own. In an A/A run both errors are equally large; else the champion's is such that its expected log loss
is higher by 2 %.

Then the comparison alone is repeated in worlds that move: the click rate of all ads differs from day to day, hold-outs
have 2, 7 or 14 days, users are equally active or not, and known or not. There the two models that are equally good also
promise too much and too little, which is what any two trainings on different days do.

Off-policy intervals are drawn from logs of their own, COVERAGE_RUNS times as many: in 500 runs, one standard error of a
coverage is 1 %, and all estimators err together, for they see the same log.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, xlog1py, xlogy
from scipy.stats import binomtest

from bench.measure import Case, console, report
from liftloop.contract.contract import Contract
from liftloop.evaluation.rewards import RewardSample
from liftloop.gate.checks.accuracy import check_beats
from liftloop.gate.specifications import Specification, prediction_checks
from liftloop.gate.verdict import CheckVerdict, overall
from liftloop.stats.columns import Floats
from liftloop.stats.interval import Interval
from liftloop.stats.off_policy import (
    LoggedFeedback,
    doubly_robust_value,
    inverse_propensity_value,
    self_normalized_value,
    switch_doubly_robust_value,
)

IMPRESSIONS, USERS, ADS, PLACEMENTS, SEGMENTS = 50_000, 5_000, 50, 9, 3
LOGIT_OF_CLICK = -4.0
ERROR = 0.15  # of a prediction, on the logit scale
GAIN = 0.02
MOST_PROMOTED, LEAST_PROMOTED, CONFIDENCE = 0.05, 0.80, 0.95
MOST_PROMOTED_AT_A_LOOK = 0.035
MOVEMENTS, HOLDOUT_DAYS = (0.0, 0.05, 0.1, 0.2), (2, 7, 14)  # of the day's click rate, on the log scale
ACTIVITY_SPREADS, KNOWN_SHARES = (0.0, 1.5), (1.0, 0.1)  # of users: on the log scale; with an id
LOOKS_SHARE = 0.4  # of the runs, in each of the 48 worlds
HIGH = 1.1  # what the challenger promises in a world that moves, times the truth
COVERAGE_RUNS, COVERAGE_ROWS, CONTEXTS, COVERAGE_ADS = 4, 10_000, 5, 8
_Answer = TypeVar("_Answer")
ESTIMATORS: dict[str, Callable[..., Interval]] = {
    "IPS": inverse_propensity_value,
    "SNIPS": self_normalized_value,
    "DR": doubly_robust_value,
    "Switch-DR": partial(switch_doubly_robust_value, max_weight=3.0),  # exceeded by the weights of 1 row in 30
}
CONTRACT = Contract.model_validate(
    {
        "source": "simulated_holdout",
        "description": "",
        "landing": {"path": "{day}.parquet", "format": "parquet"},
        "columns": {
            name: {"from": name} for name in ("impression_id", "event_timestamp", "placement_id", "ad_id", "click")
        },
        "context": {"segment": {"from": "segment", "type": "string"}},
        "keys": ["ad_id", "placement_id"],
        "kpi": "click_through_rate",
        "outcome": {"horizon": "1h"},
        "maturity": "1h",
        "split": {"validation": "1d", "holdout": "1d"},
        "gate": {"groups": ["segment"]},
    }
)


@dataclass(frozen=True)
class World:
    """How a hold-out is drawn; the defaults are those of a world that does not move."""

    days: int = 7
    movement: float = 0.0
    activity_spread: float = 0.0
    known_share: float = 1.0


@dataclass(frozen=True, eq=False)
class Predictions:
    """A hold-out, as the gate's checks see it."""

    holdout: pd.DataFrame
    sample: RewardSample
    probability: Floats
    constant: Floats
    ad_rate: Floats
    champion_probability: Floats
    is_new_to_champion: NDArray[np.bool_]
    contract: Contract = CONTRACT
    champion_version: str | None = "of the simulation"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=500)
    runs = parser.parse_args().runs
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        same = _promoted("A/A challengers promoted", _map(pool, partial(judge, worse_by=0.0), runs))
        better = _promoted(
            "challengers with 2 % less log loss promoted", _map(pool, partial(judge, worse_by=GAIN), runs)
        )
        covered = np.array(_map(pool, covers, COVERAGE_RUNS * runs))
        looks = {movement: _looks(pool, movement, round(LOOKS_SHARE * runs)) for movement in MOVEMENTS}
        week = World(movement=0.1, activity_spread=1.5)
        power = _share("2 % better, in a week that moves by 10 %", _map(pool, partial(look, week, GAIN), runs))
    cases = [
        Case("A/A challengers promoted", same, MOST_PROMOTED, 1.0, "share"),
        Case(f"{GAIN:.0%} better challengers promoted", better, LEAST_PROMOTED, 1.0, "share", is_rate=True),
        Case(f"{GAIN:.0%} better, days move by 10 %", power, LEAST_PROMOTED, 1.0, "share", is_rate=True),
    ]
    for movement, share in looks.items():
        name = f"A/A at one look, days move by {movement:.0%}"
        cases.append(Case(name, share, MOST_PROMOTED_AT_A_LOOK, 1.0, "share"))
    for name, hits in zip(ESTIMATORS, covered.T, strict=True):
        coverage = _share(f"95 % intervals of {name} that hold the truth", hits.tolist())
        cases.append(Case(f"{name} coverage off {CONFIDENCE}", abs(coverage - CONFIDENCE), 0.02, 1.0, "share"))
    report("gate", cases, runs=runs, impressions=IMPRESSIONS)


def _map(pool: ProcessPoolExecutor, run: Callable[[int], _Answer], runs: int) -> list[_Answer]:
    return list(pool.map(run, range(runs), chunksize=10))


def _share(what: str, hits: list[bool]) -> float:
    test = binomtest(sum(hits), len(hits))
    interval = test.proportion_ci(method="wilson")
    console.print(f"{what}: {test.statistic:.1%} [{interval.low:.1%}, {interval.high:.1%}] of {len(hits)}")
    return float(test.statistic)


def _looks(pool: ProcessPoolExecutor, movement: float, runs: int) -> float:
    """The share of equal challengers that pass one look, over all worlds with this movement; prints the worst."""
    worlds = [World(*world) for world in product(HOLDOUT_DAYS, [movement], ACTIVITY_SPREADS, KNOWN_SHARES)]
    passed = {world: _map(pool, partial(look, world, 0.0), runs) for world in worlds}
    worst = max(worlds, key=lambda world: sum(passed[world]))
    _share(f"  the worst of {len(worlds)} worlds: {worst}", passed[worst])
    return _share(f"A/A at one look, days move by {movement:.0%}", [hit for hits in passed.values() for hit in hits])


def look(world: World, worse_by: float, seed: int) -> bool:
    """Whether a challenger passes the comparison with the champion alone; both promise too much or too little."""
    drawn = _draw(np.random.default_rng([seed, world.days, round(1000 * worse_by)]), worse_by, world)
    high, low = (np.clip(each, 0, 1) for each in (HIGH * drawn.probability, _LOW * drawn.champion_probability))
    return check_beats(drawn.sample, high, low, "the champion").verdict == "pass"


def _promoted(what: str, found: Sequence[dict[str, CheckVerdict]]) -> float:
    """The share promoted; and which checks stood in the way of the others."""
    share = _share(what, [overall(checks.values()) == "promote" for checks in found])
    faults = Counter(f"{name} {verdict}" for checks in found for name, verdict in checks.items() if verdict != "pass")
    for fault, count in faults.most_common():
        console.print(f"  {fault}: {count}")
    return share


def judge(seed: int, *, worse_by: float) -> dict[str, CheckVerdict]:
    """One hold-out: the verdict of each check."""
    drawn = _draw(np.random.default_rng([seed, round(1000 * worse_by)]), worse_by, World())
    checks: list[Specification[Predictions]] = prediction_checks(CONTRACT, is_champion=False)
    return {each.id: each.run(drawn).verdict for each in checks}


def _draw(rng: np.random.Generator, worse_by: float, world: World) -> Predictions:
    activity = rng.lognormal(0, world.activity_spread, USERS)
    user, ad = rng.choice(USERS, IMPRESSIONS, p=activity / activity.sum()), rng.integers(ADS, size=IMPRESSIONS)
    logit = LOGIT_OF_CLICK + rng.normal(0, 0.8, USERS)[user] + rng.normal(0, 0.5, ADS)[ad]
    time = np.sort(rng.uniform(0, world.days, IMPRESSIONS))
    level = rng.lognormal(-(world.movement**2) / 2, world.movement, world.days)[time.astype(int)]
    reward = (rng.random(IMPRESSIONS) < level * expit(logit)).astype(np.float64)
    errors = (ERROR, _error_that_costs(worse_by, logit))
    challenger, champion = (expit(logit + rng.normal(0, error, IMPRESSIONS)) for error in errors)
    is_known = rng.random(USERS)[user] < world.known_share
    holdout = pd.DataFrame(
        {
            "event_timestamp": pd.Timestamp("2026-03-01", tz="UTC") + pd.to_timedelta(time, unit="D"),
            "user_id": pd.Series(user.astype(str)).where(is_known),
            "ad_id": ad.astype(str),
            "placement_id": (ad % PLACEMENTS).astype(str),
            "segment": (user % SEGMENTS).astype(str),
        }
    )
    return Predictions(
        holdout=holdout,
        sample=RewardSample.of(CONTRACT, holdout, reward),
        probability=challenger,
        constant=np.full(IMPRESSIONS, reward.mean()),
        ad_rate=(np.bincount(ad, expit(logit)) / np.bincount(ad))[ad],
        champion_probability=champion,
        is_new_to_champion=np.full(IMPRESSIONS, True),
    )


def _error_that_costs(share: float, logit: Floats) -> float:
    """The size of error with which the expected log loss is so much higher than with ERROR."""
    sample = logit[:20_000]
    noise = np.random.default_rng(0).normal(size=len(sample))

    def excess(error: float) -> float:
        return _expected_log_loss(sample, error * noise) / _expected_log_loss(sample, ERROR * noise) - 1 - share

    return ERROR if share == 0 else float(brentq(excess, ERROR, 3.0))


def _cost_of_level(level: float) -> float:
    """Of predicting `level` times the truth, where rewards are rare: up to a constant, log loss per reward."""
    return level - float(np.log(level))


_LOW = float(brentq(lambda level: _cost_of_level(level) - _cost_of_level(HIGH), 0.5, 1.0))  # costs as much as HIGH


def _expected_log_loss(logit: Floats, error: Floats) -> float:
    truth, predicted = expit(logit), expit(logit + error)
    return float(-(xlogy(truth, predicted) + xlog1py(1 - truth, -predicted)).mean())


def covers(seed: int) -> list[bool]:
    """Whether the interval of each estimator holds the true value, where every ad was shown often enough."""
    rng = np.random.default_rng([seed, COVERAGE_ROWS])  # not the numbers that the bootstrap draws
    click = rng.beta(2, 40, size=(CONTEXTS, COVERAGE_ADS))
    logging, target = (0.5 / COVERAGE_ADS + 0.5 * rng.dirichlet(np.ones(COVERAGE_ADS), CONTEXTS) for _ in range(2))
    context = rng.integers(CONTEXTS, size=COVERAGE_ROWS)
    ad = (rng.random((COVERAGE_ROWS, 1)) > logging.cumsum(axis=1)[context]).sum(axis=1).clip(max=COVERAGE_ADS - 1)
    model = click * rng.lognormal(0, 0.3, click.shape)
    feedback = LoggedFeedback(
        reward=(rng.random(COVERAGE_ROWS) < click[context, ad]).astype(np.float64),
        propensity=logging[context, ad],
        target_probability=target[context, ad],
        model_reward=model[context, ad],
        model_target_reward=(target * model).sum(axis=1)[context],
    )
    truth = float((target * click).sum(axis=1).mean())
    intervals: list[Interval] = [estimate(feedback, seed=seed) for estimate in ESTIMATORS.values()]
    return [interval.low <= truth <= interval.high for interval in intervals]


if __name__ == "__main__":
    main()
