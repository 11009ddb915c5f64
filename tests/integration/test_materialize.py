"""Tiles, feature tables and online store on a real object store; Feast's own commands in `feature_repo/`."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64, String
from feature_lake import impression, make_contract, write_lake

from liftloop.contract import Contract, declared_sources, load_contract
from liftloop.feast_asof import AsofDuckDBOfflineStoreConfig
from liftloop.feast_cli import project_settings
from liftloop.feast_repo import feature_service_name, open_feature_store
from liftloop.feature_tables import TIME_TO_LIVE, update_feature_tables
from liftloop.features import feature_columns, historical_features, online_features
from liftloop.online import newest_event, update_online_store
from liftloop.settings import Settings
from liftloop.stack.addresses import variables
from liftloop.store import Store
from liftloop.tiles import update_tiles

FIRST = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
DAY = timedelta(days=1)
UPDATES = (update_tiles, update_feature_tables, update_online_store)


@pytest.fixture
def store(object_store: Settings, tmp_path: Path) -> Store:
    """A Feast registry and an online store of its own for each test."""
    return Store(object_store.model_copy(update={"home": tmp_path}))


@pytest.fixture
def contract(store: Store) -> Contract:
    """A source of its own for each test, with twelve days of impressions in its lake."""
    contract = make_contract(f"log_{uuid4().hex[:12]}", horizon="1d")
    write_lake(store, contract, [impression(FIRST + number * DAY) for number in range(12)])
    return contract


def objects(store: Store, contract: Contract, prefix: str) -> dict[str, tuple[str, datetime]]:
    """What lies where, its content and when it was written."""
    return {item.key: (item.etag, item.modified) for item in store.list(f"{prefix}/{contract.source}/")}


def days_written(store: Store, contract: Contract, prefix: str, before: dict[str, tuple[str, datetime]]) -> set[str]:
    """The days whose partitions were written since `before`."""
    return {key.split("date=")[1][:10] for key, found in objects(store, contract, prefix).items() if before.get(key) != found}


def test_a_second_run_computes_nothing(store: Store, contract: Contract) -> None:
    first = [update(store, contract) for update in UPDATES]
    written = [objects(store, contract, prefix) for prefix in ("tiles", "features")]
    second = [update(store, contract) for update in UPDATES]
    assert [step.is_reused for step in first] == [False] * 3
    assert [step.is_reused for step in second] == [True] * 3
    assert [step.outputs for step in second] == [()] * 3
    assert [objects(store, contract, prefix) for prefix in ("tiles", "features")] == written
    assert first[0].metrics["partitions_built"] == second[0].metrics["partitions_reused"] == 24


def test_steps_say_what_they_read_and_wrote(store: Store, contract: Contract) -> None:
    tiles, tables, online = (update(store, contract) for update in UPDATES)
    assert len(tiles.inputs) == 12
    assert all(store.find(ref.key) == ref for step in (tiles, tables, online) for ref in (*step.inputs, *step.outputs))
    assert set(tables.inputs) == set(tiles.outputs)
    assert set(online.inputs) <= set(tables.outputs)
    assert online.metrics["keys_online"] == {"user_id": 1, "ad_id": 1}


def test_one_more_day_leaves_the_history_alone(store: Store, contract: Contract) -> None:
    for update in UPDATES:
        update(store, contract)
    before = {prefix: objects(store, contract, prefix) for prefix in ("tiles", "features")}
    write_lake(store, contract, [impression(FIRST + 12 * DAY)])
    steps = [update(store, contract) for update in UPDATES]
    assert [step.metrics["partitions_built"] for step in steps[:2]] == [2, 2]
    assert all(days_written(store, contract, prefix, before[prefix]) <= {"2026-03-13"} for prefix in ("tiles",))
    assert not steps[2].is_reused


def test_a_late_file_opens_only_the_days_it_reaches(store: Store, contract: Contract) -> None:
    for update in UPDATES[:2]:
        update(store, contract)
    write_lake(store, contract, [impression(FIRST + DAY, FIRST + DAY, click=1)], "late")
    tiles, tables = (update(store, contract) for update in UPDATES[:2])
    # Both days of the horizon are looked at; the second's tiles come out as they were, and go no further.
    assert {ref.key.split("date=")[1][:10] for ref in tiles.outputs} == {"2026-03-02", "2026-03-03"}
    assert {ref.key.split("date=")[1][:10] for ref in tables.outputs} == {f"2026-03-{day:02}" for day in range(2, 11)}


def test_a_withdrawn_file_takes_its_partitions_along(store: Store) -> None:
    contract = make_contract(f"log_{uuid4().hex[:12]}", horizon="1h")
    (first, _) = write_lake(store, contract, [impression(FIRST), impression(FIRST + 30 * DAY)])
    for update in UPDATES[:2]:
        update(store, contract)
    store.delete([first])
    for update in UPDATES[:2]:
        update(store, contract)
    days = {key.split("date=")[1][:10] for prefix in ("tiles", "features") for key in objects(store, contract, prefix)}
    assert days == {"2026-03-31"}
