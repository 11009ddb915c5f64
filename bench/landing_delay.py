"""How much too good a hold-out's figure is where files land late, with and without the measured landing delay.

    python -m bench.landing_delay [--impressions N]

In the simulated world that moves, files of an hour or of a day land ten minutes after its end, and are served when the
contract's freshness has passed. A model is scored on its hold-out twice: with the features that its frame has, as the
gate does, and with those that had been served at each impression. Both should have the same log loss, up to the gain
that the gate counts as none.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from typing import TypeAlias

import numpy as np
import pandas as pd
from rich.table import Table

from bench.measure import Case, console, report
from bench.window_features import fitted, simulated_features
from liftloop.contract.contract import Contract
from liftloop.contract.sections import GatePolicy
from liftloop.datasets.simulated.effects import Effects
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
    """One model: the log loss and AUC of its frame's hold-out and as served, and the share that the former lacks."""

    name: str
    hours: int
    in_frame: tuple[float, float]
    as_served: tuple[float, float]
    too_good_by: Interval


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--impressions", type=int, default=400_000)
    impressions = parser.parse_args().impressions
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        judged = pool.submit(judge, impressions).result()
    console.print(_table(judged))
    figures = [{"served": each.name, "hours": each.hours, "too_good_by": _rounded(each.too_good_by)} for each in judged]
    report("landing_delay", [_case(each) for each in judged if each.hours], impressions=impressions, figures=figures)


def judge(impressions: int) -> list[Judged]:
    """The model of a frame without a delay where features are 15 minutes old, then by period without and with one."""
    with simulated_features(Effects(), impressions) as (store, contract):
        prompt = build_frame(store, contract)
        found = [_judge(store, contract, prompt, "15 minutes earlier", lambda times: times - timedelta(minutes=15))]
        for name, period in PERIODS.items():
            delay = LandingDelay(hours=_hours(period, contract))
            for frame in (prompt, build_frame(store, delay.pinned(contract))):
                found.append(_judge(store, contract, frame, f"files land {name}", _known(period, contract)))
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


def _judge(
    store: Store, contract: Contract, frame: TrainingFrame, name: str, known: Callable[[Times], Times]
) -> Judged:
    holdout = frame.holdout
    sample = RewardSample.of(contract, holdout, holdout[contract.reward].to_numpy(dtype=np.float64))
    predict = fitted(make_recipe(contract, frame), frame)
    in_frame, as_served = predict(holdout), predict(_served(store, contract, holdout, known))
    return Judged(
        name,
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


def _case(judged: Judged) -> Case:
    error, nothing = abs(judged.too_good_by.estimate), GatePolicy().meaningful_effect
    return Case(f"error of the hold-out's log loss where {judged.name}", error, nothing, 1.0, "share")


def _rounded(interval: Interval) -> list[float]:
    return [round(each, 4) for each in (interval.estimate, interval.low, interval.high)]


def _table(judged: list[Judged]) -> Table:
    columns = ("features as served", "delay of the frame", "log loss, AUC in the frame", "as served", "too good by")
    table = Table(*columns, box=None)
    for each in judged:
        scores = [f"{loss:.5f}, {auc:.4f}" for loss, auc in (each.in_frame, each.as_served)]
        table.add_row(each.name, f"{each.hours} h", *scores, f"{each.too_good_by:.2%}")
    return table


if __name__ == "__main__":
    main()
