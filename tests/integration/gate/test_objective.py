"""Models that are trained, judged and valued for revenue, conversions and margin."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from lib.contracts import as_named
from lib.gate_lake import SEGMENTS, land, make_contract, make_rows

from liftloop.contract.contract import Contract
from liftloop.evaluation.decision_value import decide
from liftloop.evaluation.logged_candidates import competing_ads
from liftloop.gate.judge import judge
from liftloop.gate.verdict import Verdict
from liftloop.model.model import Model
from liftloop.registry import mlflow
from liftloop.registry.export import export
from liftloop.registry.load import load_model
from liftloop.registry.versions import ModelVersion
from liftloop.storage.keys import card_key
from liftloop.storage.store import Store
from liftloop.training.clicked import clicked_frame
from liftloop.training.frame import TrainingFrame
from liftloop.training.frame_builder import FrameError, build_frame
from liftloop.training.train import train

PRICES = {"a0": ("CPM", 30.0), "a1": ("CPC", 1.0), "a2": ("CPA", 4.0), "a3": ("CPC", 0.1), "a4": ("CPA", 0.5)}
CONVERTS = 0.2  # of the clicks


def paid(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its ad's price, and the revenue by it; `a5` has none, and pays 0.4 for a click."""
    pricing, bid = PRICES.get(row["ad_id"], (None, None))
    events = {"CPM": 0.001, "CPC": row["click"], "CPA": row["conversion"]}
    revenue = bid * events[pricing] if pricing and bid else 0.4 * row["click"]
    return row | {"pricing": pricing, "bid": bid, "revenue": revenue}


@pytest.fixture(scope="module")
def contract(store: Store) -> Contract:
    """Ads that pay by impression, click and conversion, and one that does not say."""
    base = make_contract(f"s{uuid4().hex[:8]}", objective="revenue")
    document = base.model_dump(by_alias=True, exclude_unset=True)
    columns = document["columns"] | as_named(["pricing", "bid"])
    contract = make_contract(base.source, objective="revenue", columns=columns)
    land(store, contract, [paid(row) for row in make_rows(0, days=6)])
    return contract


@pytest.fixture(scope="module")
def model(store: Store, version: ModelVersion) -> Model:
    return load_model(store, version)


@pytest.fixture(scope="module")
def verdict(store: Store, contract: Contract, version: ModelVersion) -> Verdict:
    return judge(store, contract, version, None)


def true_value(row: "pd.Series[Any]", ad: str) -> float:
    """What an ad earns in an impression on average, over how much users like it that moment."""
    clicks = 0.3 if int(ad[1]) % SEGMENTS == int(row["segment"][1]) else 0.05
    pricing, bid = PRICES.get(ad, ("CPC", 0.4))
    return float(bid * {"CPM": 0.001, "CPC": clicks, "CPA": clicks * CONVERTS}[pricing])


def test_decisions_earn_nearly_what_the_best_would(
    store: Store, contract: Contract, frame: TrainingFrame, model: Model
) -> None:
    ads = competing_ads(store, contract, [ref.key for ref in frame.index.partitions])
    chosen = decide(store, contract, model, ads, frame.holdout)
    place = {name: group["ad_id"].tolist() for name, group in ads.groupby("placement_id")}
    best = [max(true_value(row, ad) for ad in place[row["placement_id"]]) for _, row in chosen.iterrows()]
    ours = [true_value(row, row["chosen_ad_id"]) for _, row in chosen.iterrows()]
    logged = [true_value(row, row["ad_id"]) for _, row in chosen.iterrows()]
    assert np.mean(logged) < 0.7 * np.mean(best)
    assert np.mean(ours) > 0.9 * np.mean(best)  # 5 % of decisions explore
    expected = chosen["model_target_reward"].mean()
    assert expected == pytest.approx(np.mean(ours), rel=0.15)


def test_conversions_have_a_model_of_their_own_that_is_judged(
    frame: TrainingFrame, contract: Contract, model: Model, version: ModelVersion, verdict: Verdict
) -> None:
    clicked = clicked_frame(contract, frame)
    assert model.conversion is not None
    rates = model.conversion.predict(clicked.holdout)
    assert rates.mean() == pytest.approx(CONVERTS, abs=0.05)
    assert clicked.index.parts["holdout"].rows == frame.holdout["click"].sum()
    assert clicked.index.parts["holdout"].rewards == frame.holdout["conversion"].sum()
    ids = [check.id for check in verdict.checks if check.id.startswith("conversion_")]
    assert len(ids) == 4
    assert verdict.check("conversion_calibration").verdict == "pass"
    assert verdict.check("conversion_not_worse_than_champion").verdict == "not_applicable"
    assert version.metrics["conversion"]["trials"]


def test_the_gate_values_decisions_in_the_unit_of_the_objective(
    store: Store, contract: Contract, frame: TrainingFrame, verdict: Verdict, version: ModelVersion
) -> None:
    check = verdict.check("decisions")
    logged = frame.holdout["revenue"].mean()
    assert check.values["logged"].estimate == pytest.approx(logged, rel=0.02)
    assert check.values["difference"].low > 0
    assert check.verdict == "pass", check.reason
    card = store.get(card_key(contract.source, version.version)).decode()
    assert "highest expected revenue" in card
    assert "currency units per 1,000 impressions" in card
    assert "<h2>Outcome delay</h2>" in card


def test_an_exported_version_keeps_both_models(
    store: Store, version: ModelVersion, model: Model, frame: TrainingFrame, tmp_path: Path
) -> None:
    assert len(version.blobs) == 4
    export(store, version, tmp_path)
    loaded = mlflow._load_pyfunc(str(tmp_path / "data"))
    assert loaded.sha256 == model.sha256
    assert (loaded.predict(frame.holdout) == model.predict(frame.holdout)).all()


def test_without_prices_amounts_are_learned(store: Store) -> None:
    contract = make_contract(f"s{uuid4().hex[:8]}", objective="margin")
    land(store, contract, [paid(row) for row in make_rows(0, days=6)])
    version = train(store, contract, build_frame(store, contract))
    earnings = load_model(store, version).spec.earnings
    terms = earnings.terms(pd.DataFrame({"ad_id": ["a1", "a3", "a5"], "advertiser_id": ["v0", "v1", "v2"]}))
    assert not version.conversion
    np.testing.assert_allclose(terms.per_reward, [1.0, 0.1, 0.4], rtol=0.15)
    np.testing.assert_allclose(terms.per_impression, -0.01, rtol=0.05)


def test_conversions_that_are_lacking_are_named(store: Store) -> None:
    contract = make_contract(f"s{uuid4().hex[:8]}", objective="conversions")
    land(store, contract, [row | {"conversion": 0} for row in make_rows(0, days=6)])
    with pytest.raises(FrameError, match=r"clicks, 0 of them with a conversion"):
        train(store, contract, build_frame(store, contract))
