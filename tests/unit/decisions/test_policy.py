"""The policy's probabilities, and the value of decisions against a world whose truth is known."""

import numpy as np
import pandas as pd
import pytest
from lib.gate_lake import click_probability, make_contract
from lib.memory_store import MemoryStore

from liftloop.decisions.candidates import Chunk
from liftloop.decisions.policy import EXPLORATION_SHARE, policy_probabilities
from liftloop.evaluation import decision_value as valued
from liftloop.evaluation.decision_value import DecisionValue, decide_precisely, decision_value, value_difference
from liftloop.evaluation.logged_candidates import LoggedCandidates
from liftloop.gate.checks.decisions import check_best_fixed, check_decisions
from liftloop.gate.verdict import CheckVerdict
from liftloop.stats.interval import Interval


def chunk_of(counts: list[int]) -> Chunk:
    total = sum(counts)
    owner = np.repeat(np.arange(len(counts)), counts)
    return Chunk(0, len(counts), np.array(counts), owner, np.arange(total))


def test_the_best_ad_is_taken_but_for_the_exploration_share() -> None:
    probability = policy_probabilities(np.array([0.1, 0.3, 0.2, 0.5]), chunk_of([3, 1]))
    explored = EXPLORATION_SHARE / 3
    assert probability == pytest.approx([explored, 1 - 2 * explored, explored, 1])


def test_ties_share() -> None:
    probability = policy_probabilities(np.array([0.2, 0.1, 0.2, 0.2]), chunk_of([4]))
    explored = EXPLORATION_SHARE / 4
    assert probability == pytest.approx([(1 - EXPLORATION_SHARE) / 3 + explored, explored] + 2 * [probability[0]])


def test_probabilities_of_an_impression_sum_to_one() -> None:
    random = np.random.default_rng(0)
    chunk = chunk_of(random.integers(1, 40, 500).tolist())
    scores = random.random(len(chunk.owner)).round(1)
    assert chunk.sums(policy_probabilities(scores, chunk)) == pytest.approx(np.ones(500))


def decisions_in_a_known_world(rows: int, seed: int, model_error: float = 1.0) -> tuple[pd.DataFrame, float]:
    """Uniform logging of three ads; the target takes the ad that the segment likes. Returns its true value too."""
    random = np.random.default_rng(seed)
    segment, ad = random.integers(0, 3, rows), random.integers(0, 3, rows)
    explored = EXPLORATION_SHARE / 3
    target_probability = np.where(ad == segment, 1 - 2 * explored, explored)
    value = (1 - 2 * explored) * click_probability(0, 0) + 2 * explored * click_probability(0, 1)
    frame = pd.DataFrame(
        {
            "impression_id": np.arange(rows).astype(str),
            "user_id": None,
            "event_timestamp": pd.date_range("2026-01-01", periods=rows, freq="min", tz="UTC"),
            "propensity": 1 / 3,
            "row_weight": 1.0,
            "target_probability": target_probability,
            "reward": (random.random(rows) < click_probability(segment, ad)).astype(float),
            "model_reward": model_error * click_probability(segment, ad),
            "model_target_reward": model_error * float(value),
            "unknown_share": 0.0,
            "placement_id": "p0",
            "ad_id": [f"a{each}" for each in ad],
            "chosen_ad_id": [f"a{each}" for each in segment],
            "fixed_ad_id": [f"a{each}" for each in segment],
            "model_fixed_reward": model_error * float(click_probability(0, 0)),
        }
    )
    return frame, float(value)


@pytest.mark.parametrize("model_error", [1.0, 0.3])
def test_the_value_of_decisions_is_the_truth(model_error: float) -> None:
    decisions, truth = decisions_in_a_known_world(30_000, seed=1, model_error=model_error)
    value = decision_value(make_contract("s"), decisions)
    assert value.self_normalized.low < truth < value.self_normalized.high
    assert value.doubly_robust.low < truth < value.doubly_robust.high
    assert value.logged.estimate == decisions["reward"].mean()
    weights = decisions["target_probability"] / decisions["propensity"]
    assert value.effective_sample_size == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    assert value.impressions == 30_000
    assert not value.is_below_logged


def test_worse_decisions_are_below_what_was_logged() -> None:
    decisions, _ = decisions_in_a_known_world(30_000, seed=1)
    away = 1 - decisions["target_probability"]
    value = decision_value(make_contract("s"), decisions.assign(target_probability=away / 2, model_target_reward=0.05))
    assert value.is_below_logged
    assert value.words.startswith(
        f"Value relative to the logged decisions on {value.impressions:,} impressions:"
        f" SNIPS {value.self_normalized.estimate / value.logged.estimate:.0%}"
    )


@pytest.mark.parametrize(("snips", "dr", "expected"), [(0.9, 0.9, True), (0.9, 1.1, False), (1.1, 0.9, False)])
def test_both_estimates_must_be_below(snips: float, dr: float, expected: bool) -> None:
    value = DecisionValue(
        impressions=10,
        logged=Interval(1, 0.5, 1.5),
        self_normalized=Interval(0.5, 0.1, snips),
        doubly_robust=Interval(0.5, 0.1, dr),
        effective_sample_size=5,
    )
    assert value.is_below_logged is expected


def test_without_logged_rewards_there_is_nothing_to_compare_with() -> None:
    nothing = Interval(0, 0, 0)
    value = DecisionValue(
        impressions=10, logged=nothing, self_normalized=nothing, doubly_robust=nothing, effective_sample_size=5
    )
    assert value.words == "The 10 logged impressions have earned nothing to compare with."


def test_a_chunk_without_some_candidates() -> None:
    chunk = chunk_of([3, 1, 2]).where(np.array([True, False, True, True, False, True]))
    assert chunk.counts.tolist() == [2, 1, 1]
    assert chunk.owner.tolist() == [0, 0, 1, 2]
    assert chunk.ad.tolist() == [0, 2, 3, 5]
    assert chunk.sums(np.arange(4.0)).tolist() == [1, 2, 3]


def test_ads_that_have_ended_or_are_not_yet_shown_do_not_compete() -> None:
    day = pd.Timestamp("2026-01-10", tz="UTC")
    shown = {"ended": (-9, -1), "about to end": (-9, 0), "alive": (-1, 3), "later": (1, 3)}
    spans = [[day + pd.Timedelta(days=each) for each in span] for span in shown.values()]
    ads = pd.DataFrame(spans, columns=["first_shown", "alive_until"]).assign(ad_id=[*shown], placement_id="p0")
    rows = pd.DataFrame({"event_timestamp": [day, day - pd.Timedelta(days=20)], "placement_id": "p0"})
    (chunk,) = LoggedCandidates(MemoryStore(), make_contract("s"), None, ads, rows).chunks()  # type: ignore[arg-type]
    competing = ads["ad_id"].to_numpy()[chunk.ad]
    assert competing[chunk.owner == 0].tolist() == ["about to end", "alive"]
    assert competing[chunk.owner == 1].tolist() == [*shown]  # none was shown by then


def as_the_first(decisions: pd.DataFrame, share: float) -> pd.DataFrame:
    """Decisions that are the liked ad's for this share of the others, and evenly spread for the rest."""
    target = share * decisions["target_probability"] + (1 - share) / 3
    value = share * decisions["model_target_reward"] + (1 - share) * click_probability([0, 0, 0], [0, 1, 2]).mean()
    return decisions.assign(target_probability=target, model_target_reward=value)


def test_what_two_policies_agree_on_cancels() -> None:
    decisions, truth = decisions_in_a_known_world(30_000, seed=2)
    contract, other = make_contract("s"), as_the_first(decisions, 0.9)
    difference = value_difference(contract, other, decisions)
    even = float(click_probability([0, 0, 0], [0, 1, 2]).mean())
    assert difference.low < 0.1 * (even - truth) < difference.high
    assert difference.high - difference.low < 0.2 * (lambda i: i.high - i.low)(
        decision_value(contract, other).doubly_robust
    )
    to_log = value_difference(contract, decisions, None)
    assert to_log.low < truth - even < to_log.high


@pytest.mark.parametrize(
    ("share", "rows", "verdict"),
    [(1.0, 30_000, "pass"), (0.97, 30_000, "pass"), (0.5, 30_000, "fail"), (0.91, 900, "inconclusive")],
)
def test_decisions_may_lose_a_margin_and_no_more(share: float, rows: int, verdict: CheckVerdict) -> None:
    decisions, _ = decisions_in_a_known_world(rows, seed=3)
    decisions = decisions.assign(placement_id="p0", ad_id="a", chosen_ad_id="a")
    contract = make_contract("s", gate={"exchangeable_days": True, "minimum_effective_sample_size": 1})
    found = check_decisions(MemoryStore(), contract, as_the_first(decisions, share), decisions, "the champion")
    assert found.verdict == verdict, found.reason
    assert "compared with the champion; a loss of up to 5% is accepted" in found.reason


@pytest.mark.parametrize(("share", "rows", "verdict"), [(1.0, 30_000, "pass"), (0.5, 30_000, "fail")])
def test_decisions_may_lose_as_much_to_a_fixed_policy(share: float, rows: int, verdict: CheckVerdict) -> None:
    decisions, _ = decisions_in_a_known_world(rows, seed=3)
    found = check_best_fixed(make_contract("s"), as_the_first(decisions, share))
    assert found.verdict == verdict, found.reason
    assert "compared with always showing the ad that earned most before in each placement_id; a loss" in found.reason
    best = float(click_probability(0, 0))
    assert found.values["fixed"].low < best < found.values["fixed"].high
    assert found.values["fixed_difference"].estimate == pytest.approx(
        float(as_the_first(decisions, share)["model_target_reward"].iloc[0]) - best, abs=0.01
    )


def test_a_fixed_policy_that_the_log_hardly_follows_decides_nothing() -> None:
    decisions, _ = decisions_in_a_known_world(10_000, seed=5)
    is_rare = np.arange(len(decisions)) < 30
    rare = decisions.assign(fixed_ad_id=decisions["ad_id"].where(is_rare, "z"), model_fixed_reward=0.9)
    found = check_best_fixed(make_contract("s"), rare)
    assert found.verdict == "not_applicable"
    assert "The log cannot value always showing the ad that earned most before" in found.reason
    assert "the effective sample size is 30, below 200" in found.reason
    assert "impressions with its ads earned something, fewer than 40" in found.reason
    assert not found.values
    wrong = check_best_fixed(make_contract("s"), decisions.assign(target_probability=1.0))
    assert wrong.verdict == "untrustworthy"
    assert wrong.reason.startswith("Untrustworthy: the mean importance weight is 3")


def test_a_champion_of_which_the_log_says_too_little_is_no_measure() -> None:
    decisions, _ = decisions_in_a_known_world(10_000, seed=5)
    ours = decisions.assign(placement_id="p0", ad_id="a", chosen_ad_id="a")
    theirs = ours.assign(target_probability=0.0, chosen_ad_id="z", model_target_reward=0.0)
    contract = make_contract("s", gate={"exchangeable_days": True, "minimum_effective_sample_size": 1})
    found = check_decisions(MemoryStore(), contract, ours, theirs, "the champion")
    assert found.verdict == "untrustworthy"
    assert "of the champion: 100.0% of the decisions have no support in the log" in found.reason
    assert found.figures["compared_to"] == decisions["reward"].mean()  # for the champion's value is none


def test_more_impressions_are_decided_on_until_the_sample_is_large_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    decisions, _ = decisions_in_a_known_world(10_000, seed=4)
    asked: list[int] = []

    def decide(*_: object, max_expanded_rows: int) -> pd.DataFrame:
        asked.append(max_expanded_rows)
        return decisions.head(max_expanded_rows)

    monkeypatch.setattr(valued, "decide", decide)
    monkeypatch.setattr(valued, "MAX_EXPANDED_ROWS", 500)
    rows = decisions.assign(placement_id="p0")
    ads = pd.DataFrame({"placement_id": ["p0"]})
    for needed, expected in (
        (100, [500]),
        (1_000, [500, 2_000, 8_000]),
        (5_000, [500, 2_000, 8_000, 32_000]),
        (10_000, [500]),
    ):
        asked.clear()
        contract = make_contract("s", gate={"minimum_effective_sample_size": needed})
        decide_precisely(MemoryStore(), contract, None, ads, rows)  # type: ignore[arg-type]
        assert asked == expected
