"""Gate and evaluation on a real object store, real features and trained models, with a truth to compare with."""

import io
import shutil
import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from lib.gate_lake import ADS, ROWS_PER_DAY, click_probability, land, make_contract, make_rows
from lib.steps import with_step

from liftloop.compute.compute import OneProcess
from liftloop.contract.contract import Contract
from liftloop.contract.schedules import Schedules
from liftloop.decisions.candidates import ad_columns
from liftloop.decisions.policy import EXPLORATION_SHARE
from liftloop.evaluation.course import hours_on_record, read_evaluations
from liftloop.evaluation.decision_value import decide, decide_precisely
from liftloop.evaluation.evaluate import evaluate, write_evaluation
from liftloop.evaluation.logged_candidates import LoggedCandidates, competing_ads
from liftloop.evaluation.report import evaluation_page
from liftloop.features.definitions import feature_columns
from liftloop.features.landing_delay import LandingDelay
from liftloop.features.lookup import historical_features
from liftloop.gate.checks.decisions import check_decisions
from liftloop.gate.checks.inputs import data_lag
from liftloop.gate.checks.readiness import check_online_features, check_same_scores, run_in_fresh_process
from liftloop.gate.evidence import Evidence
from liftloop.gate.judge import judge, known_verdict
from liftloop.gate.specifications import all_checks
from liftloop.gate.verdict import Check, Verdict
from liftloop.model.model import Model
from liftloop.registry.load import Fold, load_model
from liftloop.registry.promotion import promote
from liftloop.registry.registry import Registry
from liftloop.registry.rollback import rollback
from liftloop.registry.timeline import Timeline
from liftloop.registry.versions import ModelVersion, Pointer
from liftloop.storage.keys import audit_key, card_key, champion_key
from liftloop.storage.parquet import put_parquet_blob
from liftloop.storage.runs import Step
from liftloop.storage.store import Store
from liftloop.training.fit import fit
from liftloop.training.frame import TrainingFrame
from liftloop.training.frame_builder import build_frame
from liftloop.training.search import CAUTIOUS
from liftloop.training.train import FITTED, make_recipe, train


@pytest.fixture(scope="module")
def contract(store: Store) -> Contract:
    """A source of six days, up to the features."""
    contract = make_contract(f"s{uuid4().hex[:8]}")
    land(store, contract, make_rows(0, days=6))
    return contract


@pytest.fixture(scope="module")
def model(store: Store, version: ModelVersion) -> Model:
    return load_model(store, version)


@pytest.fixture(scope="module")
def crossed(contract: Contract, frame: TrainingFrame, model: Model) -> Model:
    """A model that reads rates of ad and request together, of each, and numbers."""
    whole = make_recipe(contract, frame)
    crosses = [name for name, columns in whole.encoder.sources.items() if len(columns) == 2 and "segment" in columns]
    assert crosses
    recipe = whole.select([*crosses, "rate(ad_id)", "count(segment)", "category", *feature_columns(contract)])
    booster = fit(OneProcess(), recipe, CAUTIOUS, *(frame.index.parts[name] for name in FITTED))
    return Model(booster, model.spec.model_copy(update={"encoder": recipe.encoder}))


@pytest.fixture(scope="module")
def weak(store: Store, contract: Contract, frame: TrainingFrame) -> ModelVersion:
    """A model that was stopped after its first tree."""
    hasty = contract.training.model_copy(update={"trials": 1, "maximum_rounds": 1})
    return train(store, contract.model_copy(update={"training": hasty}), frame)


@pytest.fixture(scope="module")
def ads(store: Store, contract: Contract, frame: TrainingFrame) -> pd.DataFrame:
    return competing_ads(store, contract, [ref.key for ref in frame.index.partitions])


def outcomes_of(verdict: Verdict) -> dict[str, str]:
    return {check.id: check.verdict for check in verdict.checks}


def pointer_to(version: ModelVersion) -> Pointer:
    return Pointer(number=1, version=version.version, since=version.created_at, reason="", previous=None)


@pytest.fixture(scope="module")
def judged(store: Store, contract: Contract, version: ModelVersion) -> tuple[Verdict, Step]:
    return with_step(judge, store, contract, version, None)


def test_a_good_model_is_promoted_on_evidence_that_is_kept(
    store: Store,
    contract: Contract,
    version: ModelVersion,
    frame: TrainingFrame,
    judged: tuple[Verdict, Step],
) -> None:
    verdict, step = judged
    assert verdict.verdict == "promote", verdict.summary
    assert outcomes_of(verdict) == {
        "enough_rewards": "pass",
        "beats_constant": "pass",
        "beats_ad_rate": "pass",
        "beats_champion": "not_applicable",
        "never_rolled_back": "pass",
        "calibration": "pass",
        "calibration_error": "pass",
        "worst_slice:placement_id": "pass",
        "slice_calibration:placement_id": "pass",
        "groups:segment": "pass",
        "leakage": "pass",
        "decisions": "pass",
        "decisions_best_fixed": "pass",
        "freshness": "pass",
        "same_scores": "pass",
        "latency": "pass",
        "size": "pass",
        "online_features": "pass",
    }
    assert (verdict.rows, verdict.rewards) == (len(frame.holdout), frame.holdout["click"].sum())
    entropies = {name: score.normalized_entropy for name, score in verdict.scores.items()}
    assert entropies["model"].high < entropies["per-ad rate"].low
    assert entropies["constant"].estimate == pytest.approx(1, abs=0.02)
    assert entropies["model"].estimate < entropies["per-ad rate"].estimate

    values = {"segment": ["s0", "s1", "s2"], "placement_id": ["p0", "p1"]}
    rows = [(column, value) for column, known in values.items() for value in known]
    assert sorted((row.column, row.value) for row in verdict.groups) == sorted(rows)
    assert all(row.policy_disagreement is not None and 0.5 < row.policy_disagreement < 1 for row in verdict.groups)

    evidence = Registry(store, contract.source).version(version.version).evidence
    assert evidence is not None
    assert evidence in step.outputs
    assert Verdict.model_validate_json(store.get_verified(evidence)) == verdict
    assert set(step.inputs) == {*version.blobs, *version.frame}
    card = store.get(card_key(version.source, version.version)).decode()
    assert all(check.title in card for check in verdict.checks)


def test_an_unchanged_question_keeps_its_verdict(
    store: Store, contract: Contract, version: ModelVersion, weak: ModelVersion, judged: tuple[Verdict, Step]
) -> None:
    verdict, step = judged
    on_record = Registry(store, contract.source).version(version.version)
    for champion_then in (None, pointer_to(version)):  # before its promotion, and after
        assert with_step(judge, store, contract, on_record, champion_then) == (
            verdict,
            step.model_copy(update={"is_reused": True}),
        )
    assert known_verdict(store, contract, on_record, pointer_to(weak)) is None
    assert known_verdict(store, contract.model_copy(update={"schedules": Schedules(train="none")}), on_record, None)
    other_gate = contract.gate.model_copy(update={"minimum_rewards": 99})
    assert known_verdict(store, contract.model_copy(update={"gate": other_gate}), on_record, None) is None
    assert known_verdict(store, contract, on_record.model_copy(update={"evidence": version.spec}), None) is None
    unreadable = replace(verdict.checks[0], is_error=True)
    shaky = store.put_blob(verdict.model_copy(update={"checks": (unreadable,)}).model_dump_json().encode())
    assert known_verdict(store, contract, on_record.model_copy(update={"evidence": shaky}), None) is None


def test_a_weaker_model_is_refused_against_the_champion(
    store: Store, contract: Contract, version: ModelVersion, weak: ModelVersion
) -> None:
    verdict, step = with_step(judge, store, contract, weak, pointer_to(version))
    assert not step.is_reused
    assert verdict.verdict == "refuse"
    assert verdict.champion == version.version
    assert verdict.check("beats_champion").verdict == "fail"
    assert version.version in verdict.check("beats_champion").reason
    assert "beats the champion: Log loss is" in verdict.summary
    assert verdict.scores["champion"].log_loss.estimate < verdict.scores["model"].log_loss.estimate


def test_what_was_rolled_back_is_refused_on_the_same_data(
    store: Store, contract: Contract, version: ModelVersion, weak: ModelVersion
) -> None:
    """The verdict that made it champion would still hold: same version, same data, same rival."""
    good = version.model_copy(update={"version": version.version[:8], "evidence": None})
    Registry(store, good.source).write(good)
    before = promote(Registry(store, contract.source), weak.version, "the first", None)
    verdict = judge(store, contract, good, before)
    assert verdict.verdict == "promote", verdict.summary
    promote(Registry(store, contract.source), good.version, verdict.summary, before.etag)
    back = rollback(Registry(store, contract.source), "clicks fell")

    verdict, step = with_step(judge, store, contract, Registry(store, contract.source).version(good.version), back)
    assert not step.is_reused
    assert [check.id for check in verdict.checks if check.verdict == "fail"] == ["never_rolled_back"]
    assert verdict.summary.endswith(f"rolled back on {back.since:%Y-%m-%d %H:%M} UTC because: clicks fell.")
    again = with_step(judge, store, contract, Registry(store, contract.source).version(good.version), back)
    assert (again[0], again[1].is_reused) == (verdict, True)

    by_hand = rollback(Registry(store, contract.source), "clicks are back", to=good.version)
    known = Registry(store, contract.source).version(good.version)
    assert known_verdict(store, contract, known, by_hand) is None  # it is not held against it any more
    store.delete([champion_key(contract.source), *(audit_key(contract.source, number) for number in range(1, 5))])


def test_the_champion_itself_has_no_rival(store: Store, contract: Contract, version: ModelVersion) -> None:
    strict = contract.gate.model_copy(update={"minimum_rewards": 10_000})
    copy = version.model_copy(update={"version": "copy"})
    Registry(store, copy.source).write(copy)
    verdict = judge(store, contract.model_copy(update={"gate": strict}), copy, pointer_to(copy))
    assert "It is the champion" in verdict.check("beats_champion").reason
    assert verdict.champion is None
    assert verdict.check("enough_rewards").verdict == "inconclusive"
    assert verdict.verdict == "refuse"


def test_a_model_that_cannot_be_loaded_fails_every_check_that_needs_it(
    store: Store, contract: Contract, version: ModelVersion
) -> None:
    damaged = version.model_copy(update={"version": "damaged", "booster": version.spec})
    verdict = judge(store, contract, damaged, None)
    assert verdict.verdict == "refuse"
    failed = {check.id for check in verdict.checks if check.is_error}
    assert failed >= {"beats_constant", "calibration", "decisions", "same_scores"}
    assert outcomes_of(verdict)["enough_rewards"] == "pass"
    assert set(verdict.scores) == {"constant", "per-ad rate"}


def test_competing_ads_are_those_seen_in_the_placement(ads: pd.DataFrame) -> None:
    seen = {placement: [int(ad[1:]) for ad in part["ad_id"]] for placement, part in ads.groupby("placement_id")}
    assert seen == ADS
    assert (ads["category"] == "c" + (ads["ad_id"].str[1:].astype(int) % 3).astype(str)).all()
    assert (ads["advertiser_id"] == "v" + (ads["ad_id"].str[1:].astype(int) // 2).astype(str)).all()


@pytest.mark.parametrize(("reads", "hours"), [("model", 0), ("crossed", 0), ("model", 5)])
def test_ads_are_scored_as_if_each_had_been_the_one_in_the_row(
    store: Store,
    contract: Contract,
    frame: TrainingFrame,
    ads: pd.DataFrame,
    reads: str,
    hours: int,
    request: pytest.FixtureRequest,
) -> None:
    """The short cut by ad and hour against the long way: every (impression, ad) row through Feast and the model."""
    contract = LandingDelay(hours=hours).pinned(contract)
    model: Model = request.getfixturevalue(reads)
    rows = frame.holdout.sample(60, random_state=1).reset_index(drop=True)
    candidates = LoggedCandidates(store, contract, model, ads, rows)
    (chunk,) = candidates.chunks()
    of_ad = ["ad_id", "advertiser_id", "category"]
    requests = rows.drop(columns=[*of_ad, *feature_columns(contract)])
    expanded = requests.iloc[chunk.owner].reset_index(drop=True)
    expanded[of_ad] = ads[of_ad].iloc[chunk.ad].to_numpy()
    long_way = model.predict(historical_features(store, contract, expanded))
    np.testing.assert_allclose(candidates.value(chunk), long_way, rtol=1e-6)
    assert len(chunk.owner) == 4 * len(rows)


def test_competing_ads_have_features_as_old_as_those_of_the_frame(
    store: Store, contract: Contract, version: ModelVersion, crossed: Model, ads: pd.DataFrame
) -> None:
    as_landed = LandingDelay(hours=5).pinned(contract)
    late = build_frame(store, as_landed)
    fingerprint = {"frame_fingerprint": late.index.fingerprint}
    evidence = Evidence(store, contract, version.model_copy(update=fingerprint), None)
    fold = Fold(late.index.parts["holdout"].start, late.index.parts["holdout"].end, crossed)
    evidence.__dict__["timeline"] = Timeline((fold,))  # in place of the version's, because it reads the features
    old, fresh = (decide_precisely(store, each, crossed, ads, evidence.decided) for each in (as_landed, contract))
    pd.testing.assert_frame_equal(evidence.decisions[list(old)], old)
    assert not evidence.decisions["model_target_reward"].equals(fresh["model_target_reward"])


def test_a_decision_cannot_see_which_ad_was_logged(
    store: Store, contract: Contract, model: Model, frame: TrainingFrame, ads: pd.DataFrame
) -> None:
    rows = frame.holdout.head(200)
    of_ad = list(rows.columns[rows.columns.str.startswith(("ad_", "advertiser_"))])
    scrambled = rows.assign(category="c9")
    scrambled[of_ad] = rows[of_ad].to_numpy()[::-1]
    before, after = (decide(store, contract, model, ads, each) for each in (rows, scrambled))
    pd.testing.assert_series_equal(before["chosen_ad_id"], after["chosen_ad_id"])
    pd.testing.assert_series_equal(before["model_target_reward"], after["model_target_reward"])


def test_decisions_earn_what_the_gate_says_they_do(store: Store, judged: tuple[Verdict, Step]) -> None:
    check = judged[0].check("decisions")
    decisions = pq.read_table(io.BytesIO(store.get_verified(check.artifacts[0]))).to_pandas()
    segment = decisions["segment"].str[1:].astype(int)
    truth = {
        name: click_probability(segment, decisions[name].str[1:].astype(int)).mean()
        for name in ("ad_id", "chosen_ad_id")
    }
    assert truth["chosen_ad_id"] > 1.5 * truth["ad_id"]
    for name in ("self_normalized", "doubly_robust"):
        found = check.values[name]
        three_errors = 3 / 4 * (found.high - found.low)  # of one drawing, for one in twenty misses its interval
        assert found.estimate == pytest.approx(truth["chosen_ad_id"], abs=three_errors)
    assert check.values["logged"].low < truth["ad_id"] < check.values["logged"].high
    assert decisions["target_probability"].min() == pytest.approx(EXPLORATION_SHARE / 4)
    assert decisions["weight"].mean() == pytest.approx(1, abs=0.1)


def test_too_many_impressions_are_sampled_always_alike(
    store: Store, contract: Contract, model: Model, frame: TrainingFrame, ads: pd.DataFrame
) -> None:
    first, second = (decide(store, contract, model, ads, frame.holdout, max_expanded_rows=400) for _ in range(2))
    assert len(first) == 100
    assert first["event_timestamp"].is_monotonic_increasing
    pd.testing.assert_frame_equal(first, second)


def test_only_impressions_with_propensity_and_competing_ads_are_decided_on(
    store: Store, contract: Contract, model: Model, frame: TrainingFrame, ads: pd.DataFrame
) -> None:
    rows = frame.holdout.head(30).reset_index(drop=True)
    rows.loc[:9, "propensity"] = np.nan
    rows.loc[10:19, "placement_id"] = "p9"
    decisions = decide(store, contract, model, ads, rows)
    assert decisions["impression_id"].tolist() == rows["impression_id"][20:].tolist()
    with pytest.raises(ValueError, match="no impression has a propensity and a placement_id"):
        decide(store, contract, model, ads, rows.head(20))


def check_of(evidence: Evidence, name: str) -> Check:
    (found,) = [
        each for each in all_checks(evidence.contract, is_champion=False, has_conversions=False) if each.id == name
    ]
    return found.run(evidence)


def with_gate(contract: Contract, **changes: Any) -> Contract:
    return contract.model_copy(update={"gate": contract.gate.model_copy(update=changes)})


def test_what_the_champion_was_trained_on_is_no_evidence(
    store: Store, contract: Contract, version: ModelVersion, weak: ModelVersion, frame: TrainingFrame
) -> None:
    holdout = frame.index.parts["holdout"]
    for seen_until, share in ((holdout.start, 1.0), (holdout.start + timedelta(hours=12), 0.5), (holdout.end, 0.0)):
        champion = weak.model_copy(update={"folds": (), "trained_until": seen_until})
        evidence = Evidence(store, contract, version, champion)
        assert evidence.is_new_to_champion.mean() == pytest.approx(share, abs=0.05)
        found = check_of(evidence, "beats_champion")
        assert found.verdict == ("pass" if share else "inconclusive"), found.reason
        if share:
            decided = set(evidence.decisions["impression_id"])
            assert decided == set(evidence.holdout["impression_id"][evidence.is_new_to_champion])
            assert evidence.champion_decisions is not None
            assert set(evidence.champion_decisions["impression_id"]) == decided
        else:
            assert check_of(evidence, "decisions").verdict == "inconclusive"
            assert evidence.groups()
    assert "was trained on all of the hold-out" in found.reason


@pytest.mark.parametrize("shows_per_day", [0.4, 1, 4])
def test_a_uniform_log_of_ads_that_are_seldom_shown_is_what_it_says(
    store: Store, contract: Contract, model: Model, shows_per_day: float
) -> None:
    rng, ads, days = np.random.default_rng(3), 50, 21
    count = int(ads * days * shows_per_day)
    times = pd.Timestamp("2026-03-01", tz="UTC") + pd.to_timedelta(np.sort(rng.uniform(0, days, count)), unit="D")
    logged = pd.DataFrame(
        {"event_timestamp": times, "placement_id": "p0", "ad_id": rng.integers(0, ads, count).astype(str)}
    )
    others = {name: "x" for name in ad_columns(contract) if name != "ad_id"}
    ref = put_parquet_blob(store, logged.assign(**others))
    found = competing_ads(store, contract, [ref.key])
    rows = logged[logged["event_timestamp"] >= times[0] + pd.Timedelta(days=14)].reset_index(drop=True)
    counts = np.concatenate([chunk.counts for chunk in LoggedCandidates(store, contract, model, found, rows).chunks()])
    assert (ads / counts).mean() == pytest.approx(1, abs=0.05)  # the mean weight of a uniform policy


def test_each_version_since_the_promotion_is_a_look(
    store: Store, contract: Contract, version: ModelVersion, weak: ModelVersion
) -> None:
    first, second = sorted((version, weak), key=lambda each: each.created_at)
    begun = first.created_at - timedelta(seconds=1)
    looks = [Evidence(store, contract, each, None, begun).look for each in (first, second)]
    assert looks == [
        1,
        1 + sum(each.created_at < second.created_at for each in Registry(store, contract.source).versions()),
    ]
    assert Evidence(store, contract, second, None, second.created_at).look == 1


def test_a_leaking_column_fails_the_gate(store: Store, contract: Contract, version: ModelVersion) -> None:
    evidence = Evidence(store, contract, version, None)
    assert check_of(evidence, "leakage").verdict == "pass"
    leaky = Evidence(store, contract, version, None)
    vars(leaky)["holdout"] = evidence.holdout.assign(affinity=evidence.holdout["click"].where(lambda click: click == 1))
    assert "affinity (" in check_of(leaky, "leakage").reason
    assert check_of(leaky, "leakage").verdict == "fail"


def test_decisions_that_the_log_tells_too_little_of_are_untrustworthy(
    store: Store, contract: Contract, version: ModelVersion
) -> None:
    demanding = Evidence(store, with_gate(contract, minimum_effective_sample_size=100_000), version, None)
    check = check_of(demanding, "decisions")
    assert check.verdict == "untrustworthy"
    assert "Untrustworthy: the effective sample size is" in check.reason
    assert set(check.values) == {
        "logged",
        "self_normalized",
        "doubly_robust",
        "inverse_propensity",
        "switch_doubly_robust",
        "mean_weight",
        "difference",
    }
    untrue = demanding.decisions.assign(propensity=demanding.decisions["propensity"] / 2)
    assert "the mean importance weight is 2" in check_decisions(store, contract, untrue, None, "the log").reason
    clipping = with_gate(contract, overlap=contract.gate.overlap.model_copy(update={"max_weight": 1.0}))
    clipped = check_decisions(store, clipping, demanding.decisions, None, "the log")
    assert clipped.verdict == "untrustworthy"
    assert clipped.figures["clipped_share"] == (demanding.decisions["weight"] > 1).mean() > 0.2
    assert clipped.values["inverse_propensity"].estimate < check.values["inverse_propensity"].estimate


def test_a_model_over_its_budget_fails(store: Store, contract: Contract, version: ModelVersion) -> None:
    size = sum(ref.size_bytes for ref in version.blobs)
    for limit, verdict in [(size, "pass"), (size - 1, "fail")]:
        assert (
            check_of(Evidence(store, with_gate(contract, model_bytes=limit), version, None), "size").verdict == verdict
        )
    hasty = Evidence(store, with_gate(contract, latency_p99_milliseconds=1e-3), version, None)
    latency = check_of(hasty, "latency")
    assert latency.verdict == "fail"
    assert 0.01 < latency.figures["latency_p99_milliseconds"] < 1_000


def test_rates_are_those_of_the_whole_log_where_negatives_were_dropped(
    store: Store, contract: Contract, version: ModelVersion
) -> None:
    outcome = contract.outcome.model_copy(update={"negatives_kept": 0.1})
    whole = Evidence(store, contract, version, None)
    sampled = Evidence(store, contract.model_copy(update={"outcome": outcome}), version, None)
    assert sampled.sample.mean_rate < 0.15 * whole.sample.mean_rate
    for rates, tolerance in (("constant", 1e-7), ("ad_rate", 0.01)):  # ads are drawn to the mean a little otherwise
        here, there = getattr(sampled, rates), getattr(whole, rates)
        np.testing.assert_allclose(here / (1 - here), there / (1 - there) * 0.1, rtol=tolerance)


def test_another_model_in_the_registry_than_in_this_process_is_found(
    store: Store, version: ModelVersion, weak: ModelVersion, frame: TrainingFrame
) -> None:
    fresh = run_in_fresh_process(store, version, frame.holdout)
    finding = check_same_scores(store, load_model(store, weak), fresh)
    assert finding.verdict == "fail"
    assert "A fresh process computes other scores" in finding.reason


def test_columns_that_the_online_store_lost_are_named(
    store: Store, contract: Contract, frame: TrainingFrame, tmp_path: Path
) -> None:
    shutil.copytree(store.settings.home / "feast", tmp_path / "feast")
    database = sqlite3.connect(tmp_path / "feast" / "online_features.db")
    with database:
        database.execute(f'DELETE FROM "liftloop_{contract.source}_ad_id"')
    database.close()
    lost = Store(store.settings.model_copy(update={"home": tmp_path}))
    finding = check_online_features(lost, contract, frame.holdout)
    assert finding.verdict == "fail"
    assert "ad_impressions_7d (0%)" in finding.reason
    assert "user_impressions_7d" not in finding.reason


def test_evaluations_follow_each_other_and_notice_a_champion_that_fails(
    store: Store, contract: Contract, version: ModelVersion
) -> None:
    first, step = with_step(evaluate, store, contract)
    assert (first.health, first.champion) == ("no_champion", None)
    assert first.impressions == first.kpis["all"].impressions == pytest.approx(ROWS_PER_DAY, abs=150)
    assert first.kpis["uniform"].impressions + first.kpis["first"].impressions == first.impressions
    assert all(ref.key.startswith(f"lake/{contract.source}/") for ref in step.inputs)
    assert evaluate(store, contract) == first  # not on record yet, so nothing is lost when a run dies
    _, kept = with_step(write_evaluation, store, first)
    assert [ref.key for ref in kept.outputs] == [first.key]
    assert read_evaluations(store, contract.source) == [first]

    nothing, step = with_step(evaluate, store, contract)
    assert (nothing.health, step.is_reused, step.inputs) == ("no_new_data", True, ())

    promote(Registry(store, contract.source), version.version, "test", expected=None)
    assert Registry(store, contract.source).champion() is not None
    land(store, contract, make_rows(6, days=1), name="seventh")
    good = evaluate(store, contract)
    assert good.health == "healthy", good.findings
    assert good.since == first.until
    assert good.champion is not None
    assert good.champion.version == version.version
    assert good.champion.score.normalized_entropy.high < 1
    assert good.champion.decisions is not None
    assert good.champion.decisions.self_normalized.low > good.champion.decisions.logged.estimate
    write_evaluation(store, good)

    land(store, contract, make_rows(7, days=2, click_scale=0.2), name="worse")
    worse = evaluate(store, contract)
    assert worse.health == "degraded", worse
    assert any(finding.startswith("Predicted / observed rewards") for finding in worse.findings)
    assert [fault.is_new for fault in worse.faults] == [True] * len(worse.faults)
    page = evaluation_page(contract, worse, [first, good])
    assert all(
        word in page for word in ("degraded", "Predicted / observed rewards", "revenue per mille", version.version)
    )
    write_evaluation(store, worse)


def test_hours_are_scored_again_when_late_files_change_them(
    store: Store, contract: Contract, version: ModelVersion
) -> None:
    before = hours_on_record(read_evaluations(store, contract.source)).set_index("hour")
    land(store, contract, make_rows(7, days=2), name="worse")  # with all its clicks
    land(store, contract, make_rows(7, days=1, seed=8)[:100], name="late")
    land(store, contract, make_rows(9, days=1), name="tenth")
    right = evaluate(store, contract)
    assert right.health == "healthy", right.findings
    assert {late.kind: late.files for late in right.late} == {"new": 1, "changed": 1}
    assert right.champion is not None
    write_evaluation(store, right)
    after = hours_on_record(read_evaluations(store, contract.source)).set_index("hour")
    again = pd.DatetimeIndex([hour.hour for hour in right.late_hours])
    assert 24 <= len(again) <= 25
    assert after["rewards"][again].sum() > 3 * before["rewards"][again].sum()
    assert after["impressions"][again].sum() == before["impressions"][again].sum() + 100
    others = before.index.difference(again)
    pd.testing.assert_frame_equal(after.loc[others], before.loc[others])
    assert set(after["version"]) == {version.version}


def test_data_that_grew_old_fail_and_end_the_verdict_on_record(
    store: Store, contract: Contract, version: ModelVersion, frame: TrainingFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(store, contract, make_rows(20, days=1), name="much later")
    behind = data_lag(store, contract, frame.index)
    assert behind == pytest.approx(pd.Timedelta(days=15), abs=pd.Timedelta(minutes=5))
    verdict = judge(store, contract, version, None)
    assert verdict.check("freshness").verdict == "fail"
    assert verdict.verdict == "refuse"
    on_record = Registry(store, contract.source).version(version.version)
    assert known_verdict(store, contract, on_record, None) == verdict
    monkeypatch.setattr("liftloop.gate.judge.data_lag", lambda *_: pd.Timedelta(0))
    assert known_verdict(store, contract, on_record, None) is None
