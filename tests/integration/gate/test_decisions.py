"""Which ads compete where the log says which could have been shown, and what fixed policies earn, the plain way."""

import json
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from lib.contracts import as_named
from lib.gate_lake import ADS, land, make_contract, make_rows

from liftloop.contract.contract import Contract
from liftloop.decisions.candidates import pair_columns
from liftloop.evaluation.decision_value import decide
from liftloop.evaluation.evaluate import evaluate
from liftloop.evaluation.logged_candidates import LoggedCandidates, competing_ads
from liftloop.features.definitions import feature_columns
from liftloop.features.lookup import historical_features
from liftloop.gate.evidence import Evidence
from liftloop.gate.judge import judge
from liftloop.gate.specifications import all_checks
from liftloop.gate.verdict import Check
from liftloop.model.model import Model
from liftloop.registry.load import load_fold
from liftloop.registry.promotion import promote
from liftloop.registry.registry import Registry
from liftloop.registry.versions import ModelVersion
from liftloop.storage.keys import card_key
from liftloop.storage.store import Store
from liftloop.training.frame import TrainingFrame
from liftloop.training.frame_builder import build_frame
from liftloop.training.train import train

ELSEWHERE = {"p0": "a4", "p1": "a0"}  # could be shown there, and was shown in the other place alone
NEVER = "a9"  # could be shown, and never was


def changed(number: int, row: dict[str, Any]) -> dict[str, Any] | None:
    """The row with its set; None: its ad could not be shown. The higher the number of an ad, the fewer its clicks.

    In turn, the log does not say the set; it is wider than the ads that are shown; it lacks the place's first ad, and
    the three others then have equal chances.
    """
    is_kept, place = number % 7 >= int(row["ad_id"][1:]), row["placement_id"]
    row |= {name: row[name] * is_kept for name in ("click", "conversion", "revenue")} | {"eligible_ads": None}
    first, *others = (f"a{ad}" for ad in ADS[place])
    if number % 3 == 1:
        return row | {"eligible_ads": json.dumps(sorted([first, *others, ELSEWHERE[place], NEVER]))}
    if number % 3 == 2:
        is_possible = row["ad_id"] != first
        return (
            row | {"eligible_ads": json.dumps(sorted([*others, NEVER])), "propensity": 1 / 3} if is_possible else None
        )
    return row


@pytest.fixture(scope="module")
def contract(store: Store) -> Contract:
    source, training = f"s{uuid4().hex[:8]}", {"trials": 1, "maximum_rounds": 20}
    columns = make_contract(source).model_dump(by_alias=True, exclude_unset=True)["columns"]
    contract = make_contract(source, training=training, columns=columns | as_named(["eligible_ads"]))
    rows = (changed(number, row) for number, row in enumerate(make_rows(0, days=6)))
    land(store, contract, [row for row in rows if row])
    return contract


@pytest.fixture(scope="module")
def model(store: Store, version: ModelVersion) -> Model:
    """That of the judged day."""
    return load_fold(store, version, version.folds[0])


@pytest.fixture(scope="module")
def ads(store: Store, contract: Contract, frame: TrainingFrame) -> pd.DataFrame:
    return competing_ads(store, contract, [ref.key for ref in frame.index.partitions])


@pytest.fixture(scope="module")
def evidence(store: Store, contract: Contract, version: ModelVersion) -> Evidence:
    return Evidence(store, contract, version, None)


def competing(row: "pd.Series[Any]") -> set[str]:
    """The ads that compete for an impression: all of the place were shown before, and none has ended."""
    if row["eligible_ads"] is None:
        return {f"a{ad}" for ad in ADS[row["placement_id"]]}
    return {*json.loads(row["eligible_ads"])} - {NEVER}


def run(evidence: Evidence, name: str) -> Check:
    specifications = all_checks(evidence.contract, is_champion=False, has_conversions=False)
    return next(each for each in specifications if each.id == name).run(evidence)


def test_ads_that_could_be_shown_are_known_from_where_they_were(ads: pd.DataFrame) -> None:
    known = {f"{place} a{ad}" for place, numbers in ADS.items() for ad in numbers}
    pairs = ads["placement_id"] + " " + ads["ad_id"]
    assert {*pairs} == known | {f"{place} {ad}" for place, ad in ELSEWHERE.items()}
    assert pairs.is_monotonic_increasing
    elsewhere = ads[~pairs.isin(known)]
    assert elsewhere["category"].tolist() == ["c1", "c0"]
    assert elsewhere["first_shown"].isna().all()


def test_exactly_the_ads_that_could_be_shown_compete(
    store: Store, contract: Contract, model: Model, frame: TrainingFrame, ads: pd.DataFrame
) -> None:
    rows = frame.holdout
    (chunk,) = LoggedCandidates(store, contract, model, ads, rows).chunks()
    found = pd.Series(ads["ad_id"].to_numpy()[chunk.ad]).groupby(chunk.owner).agg(set)
    assert found.tolist() == [competing(row) for _, row in rows.iterrows()]


def test_the_share_of_ads_that_cannot_be_scored_is_said(evidence: Evidence) -> None:
    sets = evidence.decisions.merge(evidence.holdout[["impression_id", "eligible_ads"]])["eligible_ads"]
    shares = [0 if text is None else 1 / len(json.loads(text)) for text in sets]
    np.testing.assert_allclose(evidence.decisions["unknown_share"], shares)
    check = run(evidence, "decisions")
    assert check.figures["unknown_eligible_share"] == pytest.approx(np.mean(shares))
    assert f"{np.mean(shares):.1%} never were: they cannot be scored" in check.reason


def shrunken_means(rows: pd.DataFrame) -> dict[tuple[str, str], float]:
    """Mean clicks by place and ad, shrunk towards the place's (Bühlmann & Straub)."""
    pairs = rows[["placement_id", "ad_id"]].drop_duplicates().itertuples(index=False)
    groups = {
        (place, ad): rows["click"].to_numpy()[(rows["placement_id"] == place) & (rows["ad_id"] == ad)]
        for place, ad in pairs
    }
    priors = {key: rows.loc[rows["placement_id"] == key[0], "click"].mean() for key in groups}
    count = sum(map(len, groups.values()))
    within = sum(((clicks - clicks.mean()) ** 2).sum() for clicks in groups.values()) / (count - len(groups))
    apart = sum(len(clicks) * (clicks.mean() - priors[key]) ** 2 for key, clicks in groups.items())
    strength = within * count / (apart - within * len(groups))
    return {key: (each.sum() + strength * priors[key]) / (len(each) + strength) for key, each in groups.items()}


def test_the_best_fixed_policy_is_worth_what_a_plain_computation_says(
    store: Store, contract: Contract, model: Model, frame: TrainingFrame, ads: pd.DataFrame, evidence: Evidence
) -> None:
    before, rows = pd.concat([frame.training, frame.validation]), frame.holdout
    means, of_place = shrunken_means(before), before.groupby("placement_id")["click"].mean()
    worth = {(place, ad): means.get((place, ad), of_place[place]) for place in ADS for ad in ads["ad_id"]}
    best = [max((worth[row["placement_id"], ad], ad) for ad in competing(row))[1] for _, row in rows.iterrows()]
    assert evidence.decisions["fixed_ad_id"].tolist() == best
    of_ad = ads.drop_duplicates("ad_id").set_index("ad_id")[["advertiser_id", "category"]]

    def expected(shown: list[str]) -> Any:
        request = rows.drop(columns=feature_columns(contract)).assign(ad_id=shown)
        request[["advertiser_id", "category"]] = of_ad.loc[shown].to_numpy()
        return model.predict(historical_features(store, contract, request))

    weight = (rows["ad_id"] == best) / rows["propensity"]
    values = expected(best) + weight * (rows["click"] - expected(rows["ad_id"].tolist()))
    check = run(evidence, "decisions_best_fixed")
    assert check.values["fixed"].estimate == pytest.approx(values.mean(), rel=1e-5)
    ours = run(evidence, "decisions").values["doubly_robust"].estimate
    assert check.values["fixed_difference"].estimate == pytest.approx(ours - values.mean(), rel=1e-4)
    assert check.figures["compared_to"] == pytest.approx(values.mean(), rel=1e-5)


def test_each_arm_is_worth_what_a_plain_computation_says(
    store: Store,
    contract: Contract,
    model: Model,
    frame: TrainingFrame,
    evidence: Evidence,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("liftloop.gate.checks.arms.MINIMUM_EARNING", 5)
    arms = {(arm.place, arm.ad_id): arm for arm in evidence.arms()}
    assert len(arms) == 10
    decisions = evidence.decisions
    candidates = LoggedCandidates(store, contract, model, evidence._ads, frame.holdout)
    (chunk,) = candidates.chunks()
    ad_id, reward = evidence._ads["ad_id"].to_numpy()[chunk.ad], candidates.value(chunk)
    rewards = pd.DataFrame({"owner": chunk.owner, "ad": ad_id, "reward": reward}).pivot(index="owner", columns="ad")[
        "reward"
    ]
    for (place, ad), arm in arms.items():
        is_in = (decisions["placement_id"] == place) & rewards[ad].notna()
        rows = decisions[is_in]
        assert (arm.impressions, arm.shown) == (is_in.sum(), (rows["ad_id"] == ad).sum())
        if arm.value:
            weight = (rows["ad_id"] == ad) / rows["propensity"]
            value = (rewards[ad][is_in] + weight * (rows["reward"] - rows["model_reward"])).mean()
            assert arm.value.estimate == pytest.approx(value)
    assert {key for key, arm in arms.items() if arm.value is None} >= {*ELSEWHERE.items()}
    assert sum(arm.value is not None for arm in arms.values()) >= 4


def with_pair(contract: Contract) -> Contract:
    """As if the log had `affinity` of the logged ad alone."""
    affinity = contract.context["affinity"].model_copy(update={"about": "pair"})
    return contract.model_copy(update={"context": contract.context | {"affinity": affinity}})


def test_a_model_that_reads_a_column_of_the_logged_ad_alone_decides_nothing(
    store: Store, contract: Contract, version: ModelVersion, model: Model, frame: TrainingFrame, ads: pd.DataFrame
) -> None:
    paired = with_pair(contract)
    assert pair_columns(paired, model) == ["affinity"]
    verdict = judge(store, paired, version, None)
    for name in ("decisions", "decisions_best_fixed"):
        assert verdict.check(name).verdict == "not_applicable"
        assert "The model reads affinity" in verdict.check(name).reason
        assert f"context of contracts/{contract.source}.yaml" in verdict.check(name).reason
    assert verdict.arms == ()
    assert verdict.groups
    assert all(row.policy_disagreement is None for row in verdict.groups)
    with pytest.raises(ValueError, match=r"reads \['affinity'\]"):
        decide(store, paired, model, ads, frame.holdout)
    promote(Registry(store, contract.source), version.version, "test", expected=None)
    champion = evaluate(store, paired).champion
    assert champion is not None
    assert champion.decisions is None


def test_a_champion_that_reads_one_is_no_rival(store: Store, contract: Contract, version: ModelVersion) -> None:
    without = {name: column for name, column in contract.context.items() if name != "affinity"}
    blind = contract.model_copy(update={"context": without})
    evidence = Evidence(store, with_pair(contract), train(store, blind, build_frame(store, blind)), version)
    assert not evidence.pair_columns
    check = run(evidence, "decisions")
    assert check.threshold == "above -5% of the logged decisions"
    assert check.reason.endswith("The champion's decisions have no value, because it reads affinity.")


def test_the_card_has_the_fixed_policies(store: Store, contract: Contract, version: ModelVersion) -> None:
    verdict = judge(store, contract, version, None)
    for name in ("decisions", "decisions_best_fixed"):  # the model shows ads where the log never does
        assert verdict.check(name).verdict == "untrustworthy"
        assert "of the decisions have no support in the log" in verdict.check(name).reason
    card = store.get(card_key(contract.source, version.version)).decode()
    for words in (
        "Always the same ad",
        "the ad that earned most before in each place",
        "against the best fixed policy",
    ):
        assert words in card
