"""Simulated hold-outs for the benchmark of the gate: what is true of them is known."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, xlog1py, xlogy

from liftloop.contract.contract import Contract
from liftloop.evaluation.rewards import RewardSample
from liftloop.stats.columns import Floats

IMPRESSIONS, USERS, ADS, PLACEMENTS, SEGMENTS = 50_000, 5_000, 50, 9, 3
START = pd.Timestamp("2026-03-01", tz="UTC")
LOGIT_OF_CLICK = -4.0
ERROR = 0.15  # of a prediction, on the logit scale
HIGH = 1.1  # what the challenger promises in a world that moves, times the truth
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
        "objective": "clicks",
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
    logit: Floats  # of the true probability on an ordinary day
    is_new_to_champion: NDArray[np.bool_]
    look: int = 1
    contract: Contract = CONTRACT
    champion_version: str | None = "of the simulation"


def draw(rng: np.random.Generator, worse_by: float, world: World, rows: int = IMPRESSIONS) -> Predictions:
    activity = rng.lognormal(0, world.activity_spread, USERS)
    user, ad = rng.choice(USERS, rows, p=activity / activity.sum()), rng.integers(ADS, size=rows)
    logit = LOGIT_OF_CLICK + rng.normal(0, 0.8, USERS)[user] + rng.normal(0, 0.5, ADS)[ad]
    time = np.sort(rng.uniform(0, world.days, rows))
    level = rng.lognormal(-(world.movement**2) / 2, world.movement, world.days)[time.astype(int)]
    reward = (rng.random(rows) < level * expit(logit)).astype(np.float64)
    errors = (ERROR, _error_that_costs(worse_by, logit))
    challenger, champion = (expit(logit + rng.normal(0, error, rows)) for error in errors)
    is_known = rng.random(USERS)[user] < world.known_share
    holdout = pd.DataFrame(
        {
            "event_timestamp": START + pd.to_timedelta(time, unit="D"),
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
        constant=np.full(rows, reward.mean()),
        ad_rate=(np.bincount(ad, expit(logit)) / np.bincount(ad))[ad],
        champion_probability=champion,
        logit=logit,
        is_new_to_champion=np.full(rows, True),
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


LOW = float(brentq(lambda level: _cost_of_level(level) - _cost_of_level(HIGH), 0.5, 1.0))  # costs as much as HIGH


def _expected_log_loss(logit: Floats, error: Floats) -> float:
    truth, predicted = expit(logit), expit(logit + error)
    return float(-(xlogy(truth, predicted) + xlog1py(1 - truth, -predicted)).mean())
