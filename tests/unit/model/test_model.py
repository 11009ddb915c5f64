"""A model: what it predicts, and what comes back from its blobs."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import xgboost

from liftloop.model.earnings import Earnings
from liftloop.model.encoder import Encoder
from liftloop.model.model import Model, ModelSpec
from liftloop.stats.calibration import PlattCalibration
from liftloop.storage.hashing import fingerprint_of, sha256_of

random = np.random.default_rng(7)
ROWS = pd.DataFrame({"ad_id": random.choice(["a0", "a1", "a2"], 600), "hour": random.integers(0, 24, 600)})
CLICKS = random.random(600) < np.where(ROWS["ad_id"] == "a1", 0.7, 0.2)


@pytest.fixture(scope="module")
def model() -> Model:
    encoder = Encoder.fit({"ad_id": {"a0": 200, "a1": 200, "a2": 200}}, ["hour"])
    matrix = xgboost.DMatrix(encoder.encode(ROWS), CLICKS, feature_types=encoder.feature_types, enable_categorical=True)
    booster = xgboost.train({"objective": "binary:logistic", "max_depth": 3}, matrix, 8)
    spec = ModelSpec(
        reward="click",
        earnings=Earnings(objective="clicks", reward="click"),
        feature_service="simulated_click_v1",
        encoder=encoder,
        calibration=PlattCalibration(slope=0.9, intercept=-0.1),
        contract_sha256="0" * 64,
    )
    return Model(booster, spec)


def test_predictions_are_those_of_the_trees_calibrated(model: Model) -> None:
    encoded = model.spec.encoder.encode(ROWS)
    types = model.spec.encoder.feature_types
    trees = model.booster.predict(xgboost.DMatrix(encoded, feature_types=types, enable_categorical=True))
    np.testing.assert_allclose(model.predict(ROWS), model.spec.calibration.apply(trees), rtol=1e-6)
    assert model.predict(ROWS)[ROWS["ad_id"] == "a1"].mean() > 2 * model.predict(ROWS)[ROWS["ad_id"] == "a0"].mean()


def test_order_of_columns_and_further_ones_do_not_matter(model: Model) -> None:
    np.testing.assert_array_equal(
        model.predict(ROWS.assign(user_id="u")[["user_id", "hour", "ad_id"]]), model.predict(ROWS)
    )


def test_an_unseen_category_counts_as_missing(model: Model) -> None:
    unseen, missing = ROWS.assign(ad_id="new"), ROWS.assign(ad_id=None)
    np.testing.assert_array_equal(model.predict(unseen), model.predict(missing))


def test_blobs_give_the_model_back(model: Model) -> None:
    again = Model.from_blobs(*model.to_blobs())
    assert again.spec == model.spec
    assert again.to_blobs() == model.to_blobs()
    np.testing.assert_array_equal(again.predict(ROWS), model.predict(ROWS))


def test_the_version_names_both_blobs(model: Model) -> None:
    booster, spec = model.to_blobs()
    assert model.sha256 == fingerprint_of(sha256_of(booster), sha256_of(spec))
    assert model.version == model.sha256[:12]
    other = Model(model.booster, model.spec.model_copy(update={"feature_service": "simulated_click_v2"}))
    assert other.version != model.version
    assert Model(model.booster[:7], model.spec).version != model.version


def test_the_spec_is_plain_json(model: Model) -> None:
    spec = json.loads(model.to_blobs()[1])
    assert spec["encoder"]["categories"] == {"ad_id": ["a0", "a1", "a2"]}


def test_a_pickle_is_no_model(model: Model) -> None:
    booster, spec = model.to_blobs()
    with pytest.raises(ValueError, match="JSON"):
        Model.from_blobs(booster, pickle.dumps(model.spec))
    with pytest.raises(xgboost.core.XGBoostError):
        Model.from_blobs(pickle.dumps(model.booster), spec)
