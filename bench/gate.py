"""How often the gate is wrong: it promotes what is no better, refuses what is, or trusts an interval too much.

    python -m bench.gate [--runs 500]

Each run draws a new hold-out of IMPRESSIONS impressions by USERS users, whose click probabilities are known, and judges
a challenger against a champion by all the gate's own checks of predictions. Both predict the true probability with an
error of their own. In an A/A run both errors are equally large; else the champion's is such that its expected log loss
is higher by 2 %.

Then the comparison alone is repeated in worlds that move: the click rate of all ads differs from day to day, hold-outs
have 7 or 14 days, users are equally active or not, and known or not. There the two models that are equally good also
promise too much and too little, which is what any two trainings on different days do.

Off-policy intervals are drawn from logs of their own, COVERAGE_RUNS times as many: in 500 runs, one standard error of a
coverage is 1 %, and all estimators err together, for they see the same log.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
from scipy.special import expit
from scipy.stats import binomtest

from bench.gate_worlds import CONTRACT, ERROR, HIGH, IMPRESSIONS, LOW, START, Predictions, World, draw
from bench.measure import Case, console, report
from liftloop.gate.checks.accuracy import check_beats
from liftloop.gate.specifications import Specification, prediction_checks
from liftloop.gate.verdict import CheckVerdict, overall
from liftloop.stats.interval import Interval
from liftloop.stats.off_policy import (
    LoggedFeedback,
    doubly_robust_value,
    inverse_propensity_value,
    self_normalized_value,
    switch_doubly_robust_value,
)

GAIN = 0.02
MOST_PROMOTED, LEAST_PROMOTED, CONFIDENCE = 0.05, 0.80, 0.95
MOST_PROMOTED_AT_A_LOOK = 0.035
MOVEMENTS, HOLDOUT_DAYS = (0.0, 0.05, 0.1, 0.2), (7, 14)  # of the day's click rate, on the log scale
ACTIVITY_SPREADS, KNOWN_SHARES = (0.0, 1.5), (1.0, 0.1)  # of users: on the log scale; with an id
LOOKS_SHARE = 0.4  # of the runs, in each of the 32 worlds
COVERAGE_RUNS, COVERAGE_ROWS, CONTEXTS, COVERAGE_ADS = 4, 10_000, 5, 8
_Answer = TypeVar("_Answer")
ESTIMATORS: dict[str, Callable[..., Interval]] = {
    "IPS": inverse_propensity_value,
    "SNIPS": self_normalized_value,
    "DR": doubly_robust_value,
    "Switch-DR": partial(switch_doubly_robust_value, max_weight=3.0),  # exceeded by the weights of 1 row in 30
}


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
        looks = {movement: _looks(pool, movement, max(round(LOOKS_SHARE * runs), 1)) for movement in MOVEMENTS}
        week = World(movement=0.1, activity_spread=1.5)
        power = _share("2 % better, in a week that moves by 10 %", _map(pool, partial(look, week, GAIN), runs))
        months = max(round(LOOKS_SHARE * runs), 20)
        false = _share("months of daily A/A challengers with a promotion", _map(pool, partial(month, 0.0), months))
        found = _share("2 % better, promoted within two weeks", _map(pool, partial(month, GAIN), months))
    cases = [
        Case("A/A challengers promoted", same, MOST_PROMOTED, 1.0, "share"),
        Case(f"{GAIN:.0%} better challengers promoted", better, LEAST_PROMOTED, 1.0, "share", is_rate=True),
        Case(f"{GAIN:.0%} better, days move by 10 %", power, LEAST_PROMOTED, 1.0, "share", is_rate=True),
        Case("months of daily A/A challengers with a promotion", false, MOST_PROMOTED, 1.0, "share"),
        Case(f"{GAIN:.0%} better, within two weeks", found, LEAST_PROMOTED, 1.0, "share", is_rate=True),
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
    drawn = draw(np.random.default_rng([seed, world.days, round(1000 * worse_by)]), worse_by, world)
    high, low = (np.clip(each, 0, 1) for each in (HIGH * drawn.probability, LOW * drawn.champion_probability))
    return check_beats(drawn.sample, high, low, "the champion").verdict == "pass"


def month(worse_by: float, seed: int) -> bool:
    """Whether one of the daily challengers passes, each on the week before it: of 30 equal ones, or of 14 better."""
    looks = 30 if worse_by == 0 else 14
    world = World(days=looks + 6, movement=0.1, activity_spread=1.5)
    rng = np.random.default_rng([seed, looks])
    drawn = draw(rng, worse_by, world, IMPRESSIONS * world.days // 7)
    day = (drawn.holdout["event_timestamp"] - START).dt.days.to_numpy()
    champion = np.clip(LOW * drawn.champion_probability, 0, 1)
    for number in range(1, looks + 1):
        is_judged = (number - 1 <= day) & (day < number + 6)
        noise = rng.normal(0, ERROR, is_judged.sum())
        challenger = np.clip(HIGH * expit(drawn.logit[is_judged] + noise), 0, 1)
        sample = drawn.sample.where(is_judged).at_look(number)
        if check_beats(sample, challenger, champion[is_judged], "the champion").verdict == "pass":
            return True
    return False


def _promoted(what: str, found: Sequence[dict[str, CheckVerdict]]) -> float:
    """The share promoted; and which checks stood in the way of the others."""
    share = _share(what, [overall(checks.values()) == "promote" for checks in found])
    faults = Counter(f"{name} {verdict}" for checks in found for name, verdict in checks.items() if verdict != "pass")
    for fault, count in faults.most_common():
        console.print(f"  {fault}: {count}")
    return share


def judge(seed: int, *, worse_by: float) -> dict[str, CheckVerdict]:
    """One hold-out: the verdict of each check."""
    drawn = draw(np.random.default_rng([seed, round(1000 * worse_by)]), worse_by, World())
    checks: list[Specification[Predictions]] = prediction_checks(CONTRACT, is_champion=False)
    return {each.id: each.run(drawn).verdict for each in checks}


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
