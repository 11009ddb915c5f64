"""What a model card says of the model itself."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import xgboost
from lib.gate_lake import make_contract

from liftloop.features.landing_delay import LandingDelay
from liftloop.gate.card.facts import data_table, gain_shares, importance_plot, limits, loading, purpose, trials_table
from liftloop.gate.verdict import Check, CheckVerdict, Verdict
from liftloop.model.earnings import Earnings
from liftloop.model.encoder import Encoder
from liftloop.model.model import Model, ModelSpec
from liftloop.registry.versions import ModelVersion
from liftloop.stats.calibration import PlattCalibration
from liftloop.storage.store import ObjectRef
from liftloop.training.frame import FrameIndex, FramePart

FIRST = datetime(2026, 3, 1, tzinfo=UTC)
CONTRACT = make_contract("shop")
INDEX = FrameIndex(
    source="shop",
    fingerprint="abcdef" * 10,
    inputs=(ObjectRef("lake/shop/a", "0", 1), ObjectRef("lake/shop/b", "0", 1), ObjectRef("features/shop/a", "0", 1)),
    landing_delay=LandingDelay(hours=13, origin="measured"),
    parts={
        "training": FramePart(start=FIRST, end=FIRST + timedelta(days=3), rows=1000, rewards=25),
        "validation": FramePart(start=FIRST + timedelta(days=3), end=FIRST + timedelta(days=4), rows=400, rewards=8),
        "holdout": FramePart(start=FIRST + timedelta(days=4), end=FIRST + timedelta(days=5), rows=300, rewards=6),
    },
)
VERSION = ModelVersion(
    version="a" * 12,
    source="shop",
    reward="click",
    feature_service="shop_click_v1",
    training_fingerprint="f",
    frame_fingerprint=INDEX.fingerprint,
    frame=(),
    booster=ObjectRef("blobs/b", "1", 8),
    spec=ObjectRef("blobs/s", "2", 9),
    trained_until=FIRST,
    metrics={
        "validation_log_loss": 0.21,
        "trials": [
            {"number": 1, "parameters": {"max_depth": 2}, "rounds": 9, "log_loss": 0.4, "seconds": 1.0},
            {"number": 2, "parameters": {"max_depth": 3, "eta": 0.12345}, "rounds": 7, "log_loss": 0.3, "seconds": 1.0},
        ],
    },
    created_at=FIRST,
    code_revision="abc",
    manifest="runs/train/r1/manifest.json",
)


def make_model() -> Model:
    """Trees that need `strong`, `weak` a little, and `noise` not at all."""
    random = np.random.default_rng(7)
    rows = pd.DataFrame({name: random.random(2_000) for name in ("noise", "strong", "weak")})
    reward = random.random(2_000) < 0.1 + 0.7 * (rows["strong"] > 0.5) + 0.1 * (rows["weak"] > 0.5)
    rows["noise"] = 0.0
    encoder = Encoder(categories={}, numbers=tuple(rows.columns))
    booster = xgboost.train(
        {"objective": "binary:logistic", "max_depth": 2}, xgboost.DMatrix(encoder.encode(rows), reward), 5
    )
    spec = ModelSpec(
        reward="click",
        earnings=Earnings(objective="clicks", reward="click"),
        feature_service="shop_click_v1",
        encoder=encoder,
        calibration=PlattCalibration(slope=1, intercept=0),
        contract_sha256="0",
    )
    return Model(booster, spec)


def test_importance_is_the_share_of_gain_and_survives_storage() -> None:
    model = make_model()
    shares = gain_shares(model)
    assert list(shares) == ["strong", "weak"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["strong"] > 0.9
    assert gain_shares(Model.from_blobs(*model.to_blobs())) == shares
    plot = importance_plot(model)
    assert "2 of 3 columns are used" in plot.caption
    assert b"strong" in plot.svg
    assert b"noise" not in plot.svg


def test_a_constant_has_no_importance_and_still_a_plot() -> None:
    matrix = xgboost.DMatrix(pd.DataFrame({"strong": [0.0, 1.0]}), [0, 1])
    stump = xgboost.train({"objective": "binary:logistic", "max_depth": 1, "min_child_weight": 99}, matrix, 1)
    model = Model(stump, make_model().spec)
    assert gain_shares(model) == {}
    assert b"<svg" in importance_plot(model).svg


def test_the_data_are_named_with_spans_and_counts() -> None:
    table = data_table(INDEX, VERSION, negatives_kept=1)
    assert table.rows[0][:6] == ["training", "2026-03-01 00:00", "2026-03-04 00:00", 1000, 25, "2.500%"]
    assert [row[0] for row in table.rows] == ["training", "validation", "hold-out"]
    assert "joined as of each impression, less a landing delay of 13 h (measured); feature" in table.note
    assert all(word in table.note for word in ("abcdefabcdef", "2 lake files and 1 feature tables", "runs/train/r1/"))


def test_the_best_trials_come_first() -> None:
    table = trials_table(VERSION)
    assert table is not None
    assert [row[0] for row in table.rows] == [2, 1]
    assert table.rows[0][3] == "max_depth 3, eta 0.1235"
    assert trials_table(VERSION.model_copy(update={"metrics": {}})) is None


def test_limits_say_what_the_gate_could_not_tell() -> None:
    verdicts: list[tuple[str, CheckVerdict]] = [
        ("accuracy", "pass"),
        ("decisions", "inconclusive"),
        ("fairness", "not_applicable"),
    ]
    checks = [Check(found, f"As {name} is.", "1", "1", id=name, title=name) for name, found in verdicts]
    verdict = Verdict(
        source="shop", version="a", champion=None, fingerprint="f", rows=1, rewards=1, scores={}, checks=tuple(checks)
    )
    said = "\n".join(limits(CONTRACT, INDEX, verdict).points)
    assert "Trained on 4.0 days" in said
    assert "Not judged: decisions (As decisions is.)" in said
    assert "Not judged: fairness" in said
    assert "accuracy" not in said
    assert "counts per user" in said
    without_users = CONTRACT.model_copy(update={"keys": ("ad_id",)})
    assert "counts per user" not in "\n".join(limits(without_users, INDEX, verdict).points)


def test_how_to_load_it_names_the_very_version() -> None:
    assert f'Registry(store, "shop").version("{"a" * 12}")' in loading(VERSION).text
    assert any("highest probability" in paragraph for paragraph in purpose(CONTRACT).paragraphs)
