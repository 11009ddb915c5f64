"""The checks of the gate on rewards made by hand, and the verdict that follows from them."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lib.gate_lake import make_contract

from liftloop.contract.sections import GatePolicy
from liftloop.evaluation.rewards import RewardSample
from liftloop.gate.baselines import per_ad
from liftloop.gate.checks.accuracy import check_beats, check_enough_rewards
from liftloop.gate.checks.calibration import check_calibration, check_calibration_error
from liftloop.gate.checks.slices import check_worst_slice, slice_entropies
from liftloop.gate.verdict import Check, CheckVerdict, Verdict
from liftloop.stats.columns import Floats
from liftloop.stats.interval import Interval, is_outside
from liftloop.stats.scoring import log_loss
from liftloop.stats.shrinkage import smoothed_rates

POLICY = GatePolicy(resamples=200)


def drawn(probability: Floats, seed: int = 1, policy: GatePolicy = POLICY) -> RewardSample:
    """Rewards with these probabilities, every row on its own."""
    reward = (np.random.default_rng(seed).random(len(probability)) < probability).astype(float)
    return RewardSample(reward, np.arange(len(reward)), policy, seed=1)


def spread(rows: int) -> Floats:
    return np.random.default_rng(0).beta(1, 9, rows)


def test_few_rewards_are_no_evidence() -> None:
    few = RewardSample(np.array([1.0] * 99 + [0.0] * 901), np.arange(1000), POLICY, seed=1)
    finding = check_enough_rewards(few)
    assert finding.verdict == "inconclusive"
    assert (
        finding.reason == "99 rewards in the hold-out of 1,000 impressions are too few to tell a model from a constant."
    )
    enough = RewardSample(np.array([1.0] * 100 + [0.0] * 900), np.arange(1000), POLICY, seed=1)
    assert check_enough_rewards(enough).verdict == "pass"


def test_the_truth_beats_the_constant_and_the_constant_does_not_beat_the_truth() -> None:
    truth = spread(20_000)
    outcomes, constant = drawn(truth), np.full(20_000, truth.mean())
    won, lost = (
        check_beats(outcomes, truth, constant, "the constant"),
        check_beats(outcomes, constant, truth, "the truth"),
    )
    assert (won.verdict, lost.verdict) == ("pass", "fail")
    saved = 1 - log_loss(outcomes.reward, truth) / log_loss(outcomes.reward, constant)
    assert won.values["log_loss_reduction"].estimate == pytest.approx(saved)
    assert won.reason.startswith(f"Log loss is {saved:.2%} lower than that of the constant (95% interval:")
    assert "higher than that of the truth" in lost.reason


def test_a_model_beats_nobody_who_predicts_the_same() -> None:
    truth = spread(2_000)
    finding = check_beats(drawn(truth), truth, truth, "its twin")
    assert finding.verdict == "fail"
    assert finding.values["log_loss_reduction"] == Interval(0, 0, 0)


def test_a_lead_within_the_noise_is_inconclusive() -> None:
    truth = spread(1_000)
    nearly = np.clip(truth * 1.05, 0, 1)
    policy = GatePolicy(resamples=200, meaningful_effect=0.001)
    found = [check_beats(drawn(truth, seed, policy), truth, nearly, "it") for seed in range(20)]
    unsure = [each for each in found if each.verdict == "inconclusive"]
    assert len(unsure) > 5
    assert all("Telling no reduction from one of" in each.reason for each in unsure)


def test_no_better_is_told_apart_from_not_known() -> None:
    """The same interval rules a gain of some size out, and leaves a smaller one open."""
    truth = spread(2_000)
    saved = check_beats(drawn(truth), np.minimum(truth * 1.05, 1), truth, "it").values["log_loss_reduction"]
    assert saved.low < 0 < saved.high
    no_better, unknown = (
        check_beats(
            drawn(truth, policy=GatePolicy(resamples=200, meaningful_effect=effect)),
            np.minimum(truth * 1.05, 1),
            truth,
            "it",
        )
        for effect in (1.01 * saved.high, 0.5 * saved.high)
    )
    assert (no_better.verdict, unknown.verdict) == ("fail", "inconclusive")
    assert f"A reduction of {1.01 * saved.high:.2%}, the smallest that matters, is ruled out" in no_better.reason
    times = ((saved.high - saved.low) / (0.5 * saved.high)) ** 2
    assert f"in {times * 2_000:,.0f} impressions" in unknown.reason
    detectable = no_better.figures["minimum_detectable_effect"]
    assert detectable == pytest.approx(2.8016 * (saved.high - saved.low) / 3.92, rel=1e-3)
    assert f"detects a true reduction of {detectable:.2%} with 80% power" in no_better.reason


@pytest.mark.parametrize(
    ("shape", "verdict"), [(1.0, "pass"), (1.5, "fail"), (0.3, "fail")], ids=["true", "too steep", "too flat"]
)
def test_calibration_at_every_level(shape: float, verdict: CheckVerdict) -> None:
    """As many rewards promised as came, and yet at the wrong places."""
    truth = spread(20_000)
    outcomes = drawn(truth)
    bent = 0.1 * (truth / 0.1) ** shape
    bent = np.clip(bent * outcomes.reward.sum() / bent.sum(), 0, 1)
    assert check_calibration(outcomes, bent).verdict == "pass"
    finding = check_calibration_error(outcomes, bent)
    assert finding.verdict == verdict, finding


def test_a_calibration_error_that_may_be_above_the_limit_is_inconclusive() -> None:
    truth = spread(20_000)
    outcomes = drawn(truth)
    error = outcomes.calibration_error(truth * 1.2)
    policy = GatePolicy(calibration_error=(error.low + error.estimate) / 2)
    assert check_calibration_error(drawn(truth, policy=policy), truth * 1.2).verdict == "inconclusive"


def test_kept_negatives_stand_for_those_that_were_dropped() -> None:
    """Every second row without a reward left out, and weighed by two, says what all rows say."""
    truth = spread(40_000)
    whole = drawn(truth)
    is_kept = (whole.reward == 1) | (np.arange(40_000) % 2 == 0)
    sampled = replace(whole.where(is_kept), negatives_kept=0.5)
    kept = truth[is_kept]
    assert sampled.mean_rate == pytest.approx(whole.mean_rate, rel=0.02)
    for measure in ("calibration_ratio", "calibration_error"):
        found, expected = getattr(sampled, measure)(kept**0.8), getattr(whole, measure)(truth**0.8)
        assert found.estimate == pytest.approx(expected.estimate, rel=0.05), measure
        assert whole.where(is_kept).calibration_ratio(kept).estimate < 0.6  # without weights it would look modest
    found, expected = sampled.score(kept), whole.score(truth)
    assert found.log_loss.estimate == pytest.approx(expected.log_loss.estimate, rel=0.02)
    assert found.normalized_entropy.estimate == pytest.approx(expected.normalized_entropy.estimate, rel=0.02)
    constant = np.full_like(kept, whole.mean_rate)
    assert sampled.loss_reduction(kept, constant).estimate == pytest.approx(
        whole.loss_reduction(truth, np.full_like(truth, whole.mean_rate)).estimate, rel=0.1
    )


@pytest.mark.parametrize(
    ("scale", "rows", "verdict"),
    [(1.0, 20_000, "pass"), (1.6, 20_000, "fail"), (0.5, 20_000, "fail"), (1.26, 300, "inconclusive")],
)
def test_calibration(scale: float, rows: int, verdict: CheckVerdict) -> None:
    truth = spread(rows)
    outcomes = drawn(truth)
    exact = truth * outcomes.reward.sum() / truth.sum()  # predicts as many rewards as came
    finding = check_calibration(outcomes, np.clip(exact * scale, 0, 1))
    assert finding.verdict == verdict, finding
    assert finding.values["calibration_ratio"].estimate == pytest.approx(scale, rel=0.02)


def test_an_interval_that_holds_both_bounds_says_nothing_of_calibration() -> None:
    outcomes = RewardSample(np.repeat([1.0, 0.0], [10, 190]), np.arange(200), POLICY, seed=1)
    finding = check_calibration(outcomes, np.full(200, 0.05))
    ratio = finding.values["calibration_ratio"]
    assert ratio.low < 0.8 < ratio.estimate < 1.25 < ratio.high
    assert finding.verdict == "inconclusive"


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0.5, 0.79, True), (0.5, 0.8, False), (0.9, 2, False), (1.26, 2, True)]
)
def test_outside_means_the_whole_interval(low: float, high: float, expected: bool) -> None:
    assert is_outside(Interval((low + high) / 2, low, high), (0.8, 1.25)) is expected


def test_the_worst_slice_is_named_and_small_ones_are_left_out() -> None:
    truth = spread(9_000)
    slices = pd.Series(np.repeat(["good", "reversed", "small"], [4_480, 4_480, 40]), name="site_id")
    predicted = np.where(slices == "good", truth, np.clip(0.4 - truth, 0.001, 1))
    outcomes = drawn(truth)
    assert set(slice_entropies(outcomes, predicted, slices)) == {"good", "reversed"}
    finding = check_worst_slice(outcomes, predicted, slices)
    assert finding.verdict == "fail"
    assert "Highest normalized entropy of 2 values of site_id: reversed" in finding.reason
    assert check_worst_slice(outcomes, truth, slices).verdict == "pass"


def test_a_slice_just_above_the_limit_is_inconclusive() -> None:
    truth = np.full(2_000, 0.1)
    outcomes = drawn(truth, policy=GatePolicy(resamples=200, worst_slice_entropy=1.0))
    finding = check_worst_slice(outcomes, np.full(2_000, outcomes.reward.mean() * 1.05), pd.Series(["all"] * 2_000))
    assert finding.verdict == "inconclusive"


def test_without_large_slices_there_is_nothing_to_check() -> None:
    truth = spread(1_000)
    finding = check_worst_slice(drawn(truth), truth, pd.Series(np.arange(1_000).astype(str), name="site_id"))
    assert finding.verdict == "not_applicable"


def test_ad_rates_are_drawn_to_the_mean_as_far_as_the_ads_are_alike() -> None:
    random = np.random.default_rng(0)
    impressions = np.full(300, 500.0)

    def shrinkage(rates: Floats) -> float:
        counts = pd.DataFrame({"impressions": impressions, "rewards": random.binomial(500, rates).astype(float)})
        raw = counts["rewards"] / counts["impressions"]
        return float(smoothed_rates(counts, raw.mean()).std() / raw.std())

    assert shrinkage(np.full(300, 0.02)) < 0.3
    assert shrinkage(random.uniform(0.001, 0.2, 300)) > 0.95


def test_a_new_ad_has_the_mean_rate() -> None:
    rates = pd.Series({"a": 0.2})
    assert per_ad(pd.Series(["a", "new"]), rates, 0.1).tolist() == [0.2, 0.1]


def verdict_of(*found: CheckVerdict, **values: Any) -> Verdict:
    checks = [Check(each, f"reason {n}.", title=f"check {n}") for n, each in enumerate(found)]
    known: dict[str, Any] = {
        "source": "s",
        "version": "v",
        "champion": None,
        "fingerprint": "f",
        "rows": 1,
        "rewards": 1,
        "scores": {},
    }
    return Verdict.model_validate(known | {"checks": checks} | values)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (["pass", "not_applicable"], "promote"),
        (["pass", "inconclusive"], "inconclusive"),
        (["pass", "untrustworthy"], "inconclusive"),
        (["inconclusive", "fail", "pass"], "refuse"),
    ],
)
def test_one_failed_check_refuses(found: list[CheckVerdict], verdict: str) -> None:
    assert verdict_of(*found).verdict == verdict


def test_the_summary_gives_the_reasons_that_decided() -> None:
    assert verdict_of("fail", "pass", "inconclusive", "fail").summary == "refuse: check 0: reason 0. check 3: reason 3."
    assert verdict_of("pass", "inconclusive").summary == "inconclusive: check 1: reason 1."
    doubts = "inconclusive: check 0: reason 0. check 1: reason 1."
    assert verdict_of("untrustworthy", "inconclusive").summary == doubts
    assert verdict_of("pass", "not_applicable", "pass").summary == "promote: 2 checks passed, none failed"


def test_a_verdict_survives_json_with_an_endless_interval() -> None:
    check = Check("pass", "", values={"x": Interval(1, 0, math.inf)})
    verdict = verdict_of(checks=[check])
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


def test_rows_of_one_user_are_resampled_together() -> None:
    """Two hundred copies of each of fifty users tell no more than the fifty."""
    rows = pd.DataFrame(
        {
            "impression_id": [str(n) for n in range(10_000)],
            "user_id": np.tile([f"u{n}" for n in range(50)], 200),
            "event_timestamp": pd.date_range("2026-01-01", periods=10_000, freq="s", tz="UTC"),
        }
    )
    blocks = RewardSample.of(make_contract("s"), rows, np.zeros(10_000)).blocks
    assert len(np.unique(blocks)) == 50
    rows["user_id"] = None
    assert len(np.unique(RewardSample.of(make_contract("s"), rows, np.zeros(10_000)).blocks)) == 3  # hours
    rows.loc[0, "user_id"] = "u0"
    # One known user does not take the others' hours apart.
    assert len(np.unique(RewardSample.of(make_contract("s"), rows, np.zeros(10_000)).blocks)) == 4


def test_better_but_not_worth_a_move() -> None:
    truth = spread(200_000)
    saved = check_beats(drawn(truth), truth, np.clip(truth * 1.2, 0, 1), "it").values["log_loss_reduction"]
    assert saved.low > 0
    policy = GatePolicy(resamples=200, meaningful_effect=1.01 * saved.high)
    finding = check_beats(drawn(truth, policy=policy), truth, np.clip(truth * 1.2, 0, 1), "it")
    assert finding.verdict == "fail"
    assert "It is better, but not worth a move" in finding.reason


def of_days(days: int, rng: np.random.Generator, movement: float) -> tuple[RewardSample, Floats]:
    """Rewards whose rate moves from day to day, and the mean probability of each row."""
    truth, day = rng.beta(1, 9, 20_000), np.arange(20_000) * days // 20_000
    level = rng.lognormal(-(movement**2) / 2, movement, days)[day]
    reward = (rng.random(20_000) < np.clip(truth * level, 0, 1)).astype(float)
    users = rng.integers(0, 2_000, 20_000)
    return RewardSample(reward, users, POLICY, seed=1, days=day), truth


def test_looks_share_one_error_rate() -> None:
    sample = drawn(spread(2_000))
    assert sample.at_look(1).policy.confidence == pytest.approx(0.95)
    spent = [(1 - sample.at_look(number).policy.confidence) / 2 for number in range(1, 1_000)]
    assert sum(spent) == pytest.approx(0.05, abs=1e-4)
    first, tenth = (sample.at_look(number).calibration_ratio(np.full(2_000, 0.1)) for number in (1, 10))
    assert tenth.low < first.low < first.high < tenth.high


@pytest.mark.parametrize("rewards", [2, 4, 8])
def test_few_rewards_on_seven_days_are_inconclusive_and_no_error(rewards: int) -> None:
    rng = np.random.default_rng(rewards)
    for _ in range(30):
        reward = np.zeros(2_000)
        reward[rng.choice(2_000, rewards, replace=False)] = 1
        sample = RewardSample(reward, np.arange(2_000), POLICY, seed=1, days=np.arange(2_000) * 7 // 2_000)
        finding = check_calibration(sample, np.full(2_000, rewards / 2_000))
        assert finding.values["calibration_ratio"].low > 0
        assert finding.verdict in {"inconclusive", "pass"}


def test_few_days_decide_nothing() -> None:
    sample, truth = of_days(5, np.random.default_rng(1), movement=0.2)
    finding = check_beats(sample, truth, np.full(20_000, truth.mean()), "the constant")
    assert finding.verdict == "inconclusive"
    assert "lengthen split.holdout, or set gate.exchangeable_days" in finding.reason
    exchangeable = check_beats(replace(sample, days=None), truth, np.full(20_000, truth.mean()), "the constant")
    assert exchangeable.verdict == "pass"


def test_the_weather_of_a_few_days_promotes_nobody() -> None:
    """Two levels equally far from the mean: by users alone, a week's weather tells them apart."""
    promoted = {"days": 0, "users": 0}
    for seed in range(200):
        sample, truth = of_days(7, np.random.default_rng(seed), movement=0.2)
        high, low = np.clip(1.106 * truth, 0, 1), 0.9 * truth  # of the same expected log loss
        promoted["days"] += check_beats(sample, high, low, "it").verdict == "pass"
        promoted["users"] += check_beats(replace(sample, days=None), high, low, "it").verdict == "pass"
    assert promoted["days"] <= 10
    assert promoted["users"] >= 25
