"""The simulated publishers have the movement and the faults that the benchmark says they have."""

import numpy as np
import pandas as pd
import pytest

from bench.degraded_worlds import LOST_RANKING, RATE, REWARDS, Fault, World, draw_hours

DAYS = 12
STILL = World(hourly=0, daily=0, mix_hourly=0, mix_daily=0)


def totals(world: World, fault: Fault) -> "pd.Series[float]":
    hours = draw_hours(world, fault, DAYS, np.random.default_rng(3))
    total = hours[hours["hour"] >= hours["hour"][24 * 2]].sum(numeric_only=True)
    ratios = {"rewards": total["rewards"] / (24 * (DAYS - 2)), "calibration": total["predicted"] / total["rewards"]}
    ratios |= {"prediction": total["predicted"] / total["impressions"]}
    return pd.Series(ratios | {"area": total["concordance"] / total["ranked"]})


def test_a_still_world_is_one_that_the_model_knows() -> None:
    found = totals(STILL, Fault())
    assert found["rewards"] == pytest.approx(REWARDS, rel=0.01)
    assert found["calibration"] == pytest.approx(1.0146, rel=0.01)  # rewarded impressions count among all
    assert found["prediction"] == pytest.approx(1.0146 * RATE, rel=0.01)
    assert found["area"] == pytest.approx(0.7, abs=0.004)


@pytest.mark.parametrize(
    ("fault", "name", "expected"),
    [
        (Fault(predicted=1.1), "prediction", 1.1 * RATE),
        (Fault(level=0.9), "calibration", 1 / 0.9),
        (Fault(known=LOST_RANKING), "area", 0.68),
        (Fault(known=LOST_RANKING), "calibration", 1.0),
    ],
)
def test_a_fault_begins_at_its_hour_and_is_as_large_as_it_says(fault: Fault, name: str, expected: float) -> None:
    begun = Fault(24 * 2, fault.predicted, fault.level, fault.known)
    assert totals(STILL, begun)[name] == pytest.approx(expected, rel=0.025)


def test_the_rate_of_everybody_moves_and_predictions_do_not_follow() -> None:
    hours = draw_hours(World(mix_hourly=0, mix_daily=0), Fault(), 40, np.random.default_rng(4))
    moved = np.log(hours["rewards"] / hours["predicted"])
    assert moved.std() == pytest.approx(np.sqrt(0.15**2 + 0.1**2 + 1 / REWARDS), rel=0.1)
    assert np.log(hours["predicted"] / hours["impressions"]).std() < 0.02
    assert hours["impressions"].mean() == pytest.approx(REWARDS / RATE, rel=0.01)
