"""How much too good a hold-out's figure is where files land late, with and without the measured landing delay.

    python -m bench.landing_delay [--impressions N]

In the simulated world that moves, files of an hour or of a day land ten minutes after its end, and are served when the
contract's freshness has passed. A model is scored on its hold-out twice: with the features that its frame has, as the
gate does, and with those that had been served at each impression. Both should have the same log loss, up to the gain
that the gate counts as none.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from typing import TypeAlias

import numpy as np
import pandas as pd
from scipy.stats import t

from bench.measure import Case, console, report
from bench.window_features import fitted, simulated_features
from liftloop.contract.contract import Contract
from liftloop.contract.sections import GatePolicy
from liftloop.datasets.simulated.effects import LANDS_WHOLE
from liftloop.evaluation.rewards import RewardSample
from liftloop.features.definitions import feature_columns, recency_columns
from liftloop.features.landing_delay import LandingDelay, hours_behind
from liftloop.features.lookup import offline_features
from liftloop.stats.columns import Floats
from liftloop.stats.interval import Interval
from liftloop.stats.scoring import area_under_roc, log_loss
from liftloop.storage.store import Store
from liftloop.training.frame import TrainingFrame
from liftloop.training.frame_builder import build_frame
from liftloop.training.train import make_recipe

LATE = timedelta(minutes=10)
PERIODS = {"hourly": timedelta(hours=1), "daily": timedelta(days=1)}
Times: TypeAlias = "pd.Series[pd.Timestamp]"


@dataclass(frozen=True)
class Judged:
    """A model by its frame's hold-out: log loss and AUC there and as served, and the share that the former lacks."""

    hours: int
    in_frame: tuple[float, float]
    as_served: tuple[float, float]
    too_good_by: Interval


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--impressions", type=int, default=400_000)
    parser.add_argument("--worlds", type=int, default=4)
    arguments = parser.parse_args()
    judged: dict[str, list[Judged]] = defaultdict(list)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for seed in range(arguments.worlds):
            for name, each in pool.submit(judge, arguments.impressions, seed).result().items():
                judged[name].append(each)
                console.print(_line(name, each))
    errors = {name: _mean([each.too_good_by.estimate for each in found]) for name, found in judged.items()}
    for name, error in errors.items():
        console.print(f"{name}: too good by {error:.2%} in the mean of {arguments.worlds} worlds")
    cases = [_case(name, errors[name]) for name, found in judged.items() if found[0].hours]
    figures = {
        name: [round(each, 4) for each in (error.estimate, error.low, error.high)] for name, error in errors.items()
    }
    report("landing_delay", cases, **vars(arguments), figures=figures)


def judge(impressions: int, seed: int) -> dict[str, Judged]:
    """The model of a frame without a delay where features are 15 minutes old, then by period without and with one."""
    with simulated_features(LANDS_WHOLE, impressions, seed) as (store, contract):
        prompt = build_frame(store, contract)
        found = {"15 minutes earlier": _judge(store, contract, prompt, lambda times: times - timedelta(minutes=15))}
        for name, period in PERIODS.items():
            hours = _hours(period, contract)
            late, known = build_frame(store, LandingDelay(hours=hours).pinned(contract)), _known(period, contract)
            found[f"files land {name}, no delay"] = _judge(store, contract, prompt, known)
            found[f"files land {name}, {hours} h"] = _judge(store, contract, late, known)
        return found


def _hours(period: timedelta, contract: Contract) -> int:
    """The delay that would be measured."""
    ends = [datetime(2026, 1, 5, tzinfo=UTC) + number * period for number in range(timedelta(days=16) // period)]
    hours = hours_behind([(end + LATE, end) for end in ends], contract.freshness)
    assert hours is not None  # it is measured over more than a day
    return hours


def _known(period: timedelta, contract: Contract) -> Callable[[Times], Times]:
    """The newest event whose file had been served, as a function of the time of a decision."""

    def known(times: Times) -> Times:
        ends = (times - LATE - contract.freshness).dt.floor(period)
        return ends - timedelta(microseconds=1)

    return known


def _judge(store: Store, contract: Contract, frame: TrainingFrame, known: Callable[[Times], Times]) -> Judged:
    holdout = frame.holdout
    sample = RewardSample.of(contract, holdout, holdout[contract.reward].to_numpy(dtype=np.float64))
    predict = fitted(make_recipe(contract, frame), frame)
    in_frame, as_served = predict(holdout), predict(_served(store, contract, holdout, known))
    return Judged(
        frame.index.landing_delay.hours,
        _scores(sample, in_frame),
        _scores(sample, as_served),
        sample.loss_reduction(in_frame, as_served),
    )


def _served(store: Store, contract: Contract, rows: pd.DataFrame, known: Callable[[Times], Times]) -> pd.DataFrame:
    """The rows with the features of the newest known event; seconds since an event are counted to the decision."""
    times = rows["event_timestamp"]
    asked = rows[list(contract.keys)].assign(event_timestamp=known(times))
    features = offline_features(store, contract, asked)[feature_columns(contract)]
    recency = list(recency_columns(contract).values())
    features[recency] = features[recency].add((times - asked["event_timestamp"]).dt.total_seconds(), axis="index")
    return pd.concat([rows.drop(columns=features.columns), features], axis="columns")[rows.columns]


def _scores(sample: RewardSample, probability: Floats) -> tuple[float, float]:
    return log_loss(sample.reward, probability), area_under_roc(sample.reward, probability)


def _mean(errors: list[float]) -> Interval:
    """The mean over worlds with Student's 95 % limits; infinite ones of a single world."""
    width = t.ppf(0.975, len(errors) - 1) * np.std(errors, ddof=1) / len(errors) ** 0.5 if errors[1:] else np.inf
    return Interval(float(np.mean(errors)), float(np.mean(errors) - width), float(np.mean(errors) + width))


def _case(name: str, error: Interval) -> Case:
    nothing = GatePolicy().meaningful_effect
    return Case(f"error of the hold-out's log loss: {name}", abs(error.estimate), nothing, 1.0, "share")


def _line(name: str, judged: Judged) -> str:
    scores = (f"{loss:.5f}, AUC {auc:.4f}" for loss, auc in (judged.in_frame, judged.as_served))
    return f"{name:<28} log loss {' -> as served '.join(scores)}: too good by {judged.too_good_by:.2%}"


if __name__ == "__main__":
    main()
