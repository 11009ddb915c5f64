"""When a training is due, and why it is not, on a real lake."""

from uuid import uuid4

import pytest
from lib.feature_lake import write_lake
from lib.model_versions import put_version
from lib.training_lake import FIRST, land, make_contract, make_rows

from liftloop.contract.contract import Contract
from liftloop.operations.retraining import TrainingNeed, training_need
from liftloop.registry.registry import Registry
from liftloop.storage.store import Store
from liftloop.training.frame_builder import build_frame


@pytest.fixture
def contract() -> Contract:
    return make_contract(f"s{uuid4().hex[:8]}")


def test_a_first_training_waits_for_enough_impressions(store: Store, contract: Contract) -> None:
    assert training_need(store, contract).reason.startswith(f"the lake of {contract.source} is empty")
    write_lake(store, contract, make_rows(days=3))
    need = training_need(store, contract)
    assert not need.is_due
    assert "the training part of" in need.reason
    assert "has 0 rows" in need.reason
    write_lake(store, contract, make_rows())
    assert training_need(store, contract) == TrainingNeed(is_due=True, reason="there is no model yet")


def test_rows_of_one_moment_are_never_due(store: Store, contract: Contract) -> None:
    write_lake(store, contract, [row | {"event_timestamp": FIRST} for row in make_rows(days=1)])
    need = training_need(store, contract)
    assert not need.is_due
    assert "have the event time 2026-03-01 00:00:00" in need.reason


def test_a_retraining_waits_for_the_contracts_share(store: Store, contract: Contract) -> None:
    land(store, contract, make_rows())
    frame = build_frame(store, contract).index
    version = put_version(store, contract.source, "v1")
    registry = Registry(store, contract.source)
    registry.write(version.model_copy(update={"frame_fingerprint": frame.fingerprint}))
    rows = sum(part.rows for part in frame.parts.values())
    none = f"0 impressions have matured since v1 was trained on {rows:,}, fewer than the contract's share of 5%"
    assert training_need(store, contract) == TrainingNeed(is_due=False, reason=none)
    more = [row | {"impression_id": f"m{number}"} for number, row in enumerate(make_rows(days=1, rows_per_day=200))]
    write_lake(store, contract, more, name="more")
    news = f"200 impressions have matured since v1 was trained on {rows:,}"
    assert training_need(store, contract) == TrainingNeed(is_due=True, reason=news)
