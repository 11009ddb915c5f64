"""How often the gate is wrong: it promotes what is no better, refuses what is, or trusts an interval too much.

    python -m bench.gate [--runs 500]

Each run draws a new hold-out of IMPRESSIONS impressions by USERS users, whose click probabilities are known, and judges
a challenger against a champion by the gate's own checks. Both predict the true probability with an error of their own.
In an A/A run both errors are equally large; else the champion's is such that its expected log loss is higher by 2 %.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit, xlog1py, xlogy
from scipy.stats import binomtest

from bench.measure import Case, console, report
from liftloop.contract_sections import GatePolicy
from liftloop.gate.accuracy import beats, enough_evidence, is_calibrated, worst_slice
from liftloop.outcomes import Outcomes
from liftloop.stats.columns import Floats
from liftloop.stats.interval import Interval
from liftloop.stats.off_policy import (
    LoggedFeedback,
    doubly_robust_value,
    inverse_propensity_value,
    self_normalized_value,
)

IMPRESSIONS, USERS, ADS, PLACEMENTS = 50_000, 5_000, 50, 9
LOGIT_OF_CLICK = -4.0
ERROR = 0.15  # of a prediction, on the logit scale
GAIN = 0.02
MOST_PROMOTED, LEAST_PROMOTED, CONFIDENCE = 0.05, 0.80, 0.95
COVERAGE_ROWS, CONTEXTS, COVERAGE_ADS = 10_000, 5, 8
_Answer = TypeVar("_Answer")
ESTIMATORS = {"IPS": inverse_propensity_value, "SNIPS": self_normalized_value, "DR": doubly_robust_value}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=500)
    runs = parser.parse_args().runs
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        same = _share("A/A challengers promoted", _map(pool, partial(is_promoted, worse_by=0.0), runs))
        better = _share(
            "challengers with 2 % less log loss promoted", _map(pool, partial(is_promoted, worse_by=GAIN), runs)
        )
        covered = np.array(_map(pool, covers, runs))
    cases = [
        Case("A/A challengers promoted", same, MOST_PROMOTED, 1.0, "share"),
        Case(f"{GAIN:.0%} better challengers promoted", better, LEAST_PROMOTED, 1.0, "share", is_rate=True),
    ]
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


def is_promoted(seed: int, *, worse_by: float) -> bool:
    """One hold-out, one verdict."""
    rng = np.random.default_rng([seed, round(1000 * worse_by)])
    user, ad = rng.integers(USERS, size=IMPRESSIONS), rng.integers(ADS, size=IMPRESSIONS)
    logit = LOGIT_OF_CLICK + rng.normal(0, 0.8, USERS)[user] + rng.normal(0, 0.5, ADS)[ad]
    reward = (rng.random(IMPRESSIONS) < expit(logit)).astype(np.float64)
    errors = (ERROR, _error_that_costs(worse_by, logit))
    challenger, champion = (expit(logit + rng.normal(0, error, IMPRESSIONS)) for error in errors)
    ad_rate = (np.bincount(ad, expit(logit)) / np.bincount(ad))[ad]
    outcomes = Outcomes(reward, user.astype(np.intp), GatePolicy(), seed)
    findings = [
        enough_evidence(outcomes),
        beats(outcomes, challenger, np.full(IMPRESSIONS, reward.mean()), "the constant"),
        beats(outcomes, challenger, ad_rate, "each ad's own rate"),
        beats(outcomes, challenger, champion, "the champion"),
        is_calibrated(outcomes, challenger),
        worst_slice(outcomes, challenger, pd.Series(ad % PLACEMENTS, name="placement_id").astype(str)),
    ]
    return all(finding.verdict == "pass" for finding in findings)


def _error_that_costs(share: float, logit: Floats) -> float:
    """The size of error with which the expected log loss is so much higher than with ERROR."""
    sample = logit[:20_000]
    noise = np.random.default_rng(0).normal(size=len(sample))

    def excess(error: float) -> float:
        return _expected_log_loss(sample, error * noise) / _expected_log_loss(sample, ERROR * noise) - 1 - share

    return ERROR if share == 0 else float(brentq(excess, ERROR, 3.0))


def _expected_log_loss(logit: Floats, error: Floats) -> float:
    truth, predicted = expit(logit), expit(logit + error)
    return float(-(xlogy(truth, predicted) + xlog1py(1 - truth, -predicted)).mean())


def covers(seed: int) -> list[bool]:
    """Whether the interval of each estimator holds the true value, where every ad was shown often enough."""
    rng = np.random.default_rng(seed)
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
