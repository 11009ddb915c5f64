"""A log that holds a sample of its unrewarded impressions gives the figures of the full log.

Each figure is computed on the full log and on 20 samples of it. The mean over the samples is within five of its
standard errors of the full log's figure, and within a share of it that no sample of this size exceeds by chance.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from lib.gate_lake import make_contract

from liftloop.contract.contract import Contract
from liftloop.evaluation.decision_value import decision_value, logged_feedback
from liftloop.evaluation.kpi import kpis_by_policy
from liftloop.evaluation.rewards import RewardSample
from liftloop.gate.checks.decisions import unsupported_mass
from liftloop.gate.checks.groups import group_table
from liftloop.stats.overlap import overlap
from liftloop.stats.scoring import reliability_table

ROWS, SAMPLES = 60_000, 20
Figures = dict[str, float]


def full_log() -> pd.DataFrame:
    """Impressions with a click probability of about 2 %, a promise that is 20 % too high, and decisions on them."""
    rng = np.random.default_rng(11)
    truth = 0.02 * rng.lognormal(-0.3, 0.8, ROWS).clip(0, 20)
    click = rng.random(ROWS) < truth
    propensity = rng.choice([0.1, 0.3, 0.6], ROWS)
    hours = pd.to_timedelta(rng.uniform(0, 48, ROWS), unit="h")
    ads = np.array(["a", "b", "c"])
    return pd.DataFrame(
        {
            "impression_id": np.arange(ROWS).astype(str),
            "event_timestamp": pd.Timestamp("2026-03-01", tz="UTC") + hours,
            "user_id": rng.integers(0, 4_000, ROWS).astype(str),
            "policy": rng.choice(["uniform", "first"], ROWS),
            "placement_id": rng.choice(["p0", "p1"], ROWS),
            "segment": rng.choice(["s0", "s1"], ROWS),
            "ad_id": ads[rng.integers(0, 2, ROWS)],
            "chosen_ad_id": ads[rng.integers(0, 3, ROWS)],
            "click": click.astype(int),
            "conversion": (click & (rng.random(ROWS) < 0.3)).astype(int),
            "revenue": click * rng.choice([0.2, 0.7], ROWS),
            "cost": rng.choice([0.001, 0.004], ROWS),
            "propensity": propensity,
            "target_probability": rng.choice([0.05, 0.95], ROWS, p=[0.7, 0.3]),
            "probability": 1.2 * truth,
            "model_reward": truth,
            "model_target_reward": 1.1 * truth,
            "reward": click.astype(float),
            "row_weight": 1.0,
        }
    )


FULL = full_log()


def contract_of(kept: float) -> Contract:
    outcome = {"delay": "10m", "horizon": "1h", "negatives_kept": kept}
    return make_contract("s", outcome=outcome, gate={"resamples": 100, "groups": ["segment"]})


def thinned(kept: float, seed: int) -> pd.DataFrame:
    is_kept = (FULL["click"] == 1) | (np.random.default_rng(seed).random(ROWS) < kept)
    row_weight = np.where(FULL["click"] == 1, 1, 1 / kept)
    return FULL.assign(row_weight=row_weight)[is_kept].reset_index(drop=True)


def of_kpis(contract: Contract, rows: pd.DataFrame) -> Figures:
    names = ("click_through_rate", "conversion_rate", "conversions_per_mille", "revenue_per_mille", "margin_per_mille")
    kpis = kpis_by_policy(contract, rows)["all"]
    return {name: getattr(kpis, name).estimate for name in names}


def of_predictions(contract: Contract, rows: pd.DataFrame) -> Figures:
    sample = RewardSample.of(contract, rows, rows["reward"].to_numpy())
    probability = rows["probability"].to_numpy()
    score = sample.score(probability)
    bins = reliability_table(sample.reward, probability, bins=5, weight=sample.weight)
    found = {"rows": sample.weight.sum(), "rate": sample.mean_rate, "log loss": score.log_loss.estimate}
    found |= {"entropy": score.normalized_entropy.estimate}
    found |= {"calibration": sample.calibration_ratio(probability).estimate}
    found |= {f"predicted {place}": each.mean_probability for place, each in enumerate(bins)}
    return found | {f"observed {place}": each.mean_reward for place, each in enumerate(bins)}


def of_decisions(contract: Contract, rows: pd.DataFrame) -> Figures:
    value, (feedback, options) = decision_value(contract, rows), logged_feedback(contract, rows)
    found = overlap(feedback, max_weight=8, **options)
    return {
        **{name: getattr(value, name).estimate for name in ("logged", "self_normalized", "doubly_robust")},
        "size": value.effective_sample_size,
        "mean weight": found.mean_weight.estimate,
        "clipped": found.clipped_share,
        "largest": found.largest_reward_share,
        "unsupported": unsupported_mass(contract, rows),
    }


def of_groups(contract: Contract, rows: pd.DataFrame) -> Figures:
    sample = RewardSample.of(contract, rows, rows["reward"].to_numpy())
    table = group_table(sample, rows["probability"].to_numpy(), rows["segment"], rows["target_probability"])
    found = {}
    for row in table:
        assert row.calibration_ratio
        assert row.policy_disagreement is not None
        found[f"ratio {row.value}"] = row.calibration_ratio.estimate
        found[f"disagreement {row.value}"] = row.policy_disagreement
    return found


@pytest.mark.parametrize(("kept", "tolerance"), [(0.5, 0.02), (0.1, 0.04), (0.02, 0.15)])
@pytest.mark.parametrize("figures", [of_kpis, of_predictions, of_decisions, of_groups])
def test_a_sampled_log_has_the_figures_of_the_full_one(
    figures: Callable[[Contract, pd.DataFrame], Figures], kept: float, tolerance: float
) -> None:
    expected = figures(contract_of(1), FULL)
    found = pd.DataFrame([figures(contract_of(kept), thinned(kept, seed)) for seed in range(SAMPLES)])
    error = found.std() / np.sqrt(SAMPLES)
    for name, value in expected.items():
        assert found[name].mean() == pytest.approx(value, rel=tolerance), name
        assert abs(found[name].mean() - value) <= 5 * error[name] + 1e-3 * abs(value), name
