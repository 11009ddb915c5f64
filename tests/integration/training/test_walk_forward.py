"""Each judged day is predicted by a model of the days before it; what is served was fitted on all."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from lib.training_lake import FIRST, land, make_contract, make_rows

from liftloop.contract.contract import Contract
from liftloop.registry.load import load_fold, load_model
from liftloop.registry.timeline import Timeline
from liftloop.registry.versions import ModelVersion
from liftloop.storage.store import Store
from liftloop.training.frame import TrainingFrame
from liftloop.training.frame_builder import build_frame
from liftloop.training.train import train

DAY = timedelta(days=1)
HOLDOUT = FIRST + 3 * DAY


def trained(store: Store, rows: list[dict[str, Any]]) -> tuple[Contract, TrainingFrame, ModelVersion]:
    contract = make_contract(f"s{uuid4().hex[:8]}", split={"validation": "1d", "holdout": "3d"})
    land(store, contract, rows)
    frame = build_frame(store, contract)
    return contract, frame, train(store, contract, frame)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return make_rows(days=7)


@pytest.fixture(scope="module")
def known(store: Store, rows: list[dict[str, Any]]) -> tuple[Contract, TrainingFrame, ModelVersion]:
    return trained(store, rows)


def test_every_judged_day_has_a_model_of_the_days_before_it(
    store: Store, rows: list[dict[str, Any]], known: tuple[Contract, TrainingFrame, ModelVersion]
) -> None:
    _, frame, version = known
    assert [fold.since for fold in version.folds] == [HOLDOUT + number * DAY for number in range(3)]
    assert [fold.until for fold in version.folds][:2] == [HOLDOUT + DAY, HOLDOUT + 2 * DAY]
    assert version.folds[-1].until == version.trained_until == frame.index.parts["holdout"].end
    second = HOLDOUT + DAY
    changed = [row | {"click": 1 - row["click"]} if row["event_timestamp"] >= second else row for row in rows]
    other = trained(store, changed)[2]
    same = [
        load_fold(store, version, ours).booster.save_raw("ubj")
        == load_fold(store, other, theirs).booster.save_raw("ubj")
        for ours, theirs in zip(version.folds, other.folds, strict=True)
    ]
    assert same == [True, True, False]  # the second day's own rewards are in the third day's model alone
    assert version.booster != other.booster


def test_a_timeline_predicts_what_its_models_have_not_seen(
    store: Store, known: tuple[Contract, TrainingFrame, ModelVersion]
) -> None:
    _, frame, version = known
    timeline = Timeline.load(store, version)
    assert timeline.since == HOLDOUT
    holdout, times = frame.holdout, frame.holdout["event_timestamp"]
    predicted = timeline.predict(holdout)
    for fold in version.folds:
        is_judged = (times >= fold.since) & (times < fold.until)
        expected = load_fold(store, version, fold).predict(holdout[is_judged])
        np.testing.assert_array_equal(predicted[is_judged], expected)
    later = holdout.assign(event_timestamp=times + 5 * DAY)
    np.testing.assert_array_equal(timeline.predict(later), load_model(store, version).predict(holdout))
    assert np.isnan(timeline.predict(frame.training)).all()
    assert [part["event_timestamp"].min().floor("D") for _, part in timeline.by_time(holdout)] == [
        HOLDOUT + number * DAY for number in range(3)
    ]
