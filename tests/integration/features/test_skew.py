"""Values online that are not those of the tables are found and named, with who wrote either."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pandas as pd
import pytest
from lib.feature_lake import impression, make_contract, write_lake
from lib.steps import with_step

from liftloop.contract.contract import Contract
from liftloop.features.definitions import feature_columns, table_columns, view_name
from liftloop.features.feast_repo import open_feature_store
from liftloop.features.landing_delay import LandingDelay
from liftloop.features.lookup import materialized_at, online_features
from liftloop.features.materialize import update_online_store
from liftloop.features.skew import SkewError, find_skew, require_no_skew
from liftloop.features.tiles import update_tiles
from liftloop.features.windows import update_feature_tables
from liftloop.settings import Settings
from liftloop.storage.keys import materialized_key
from liftloop.storage.runs import recorded
from liftloop.storage.store import Store

FIRST = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


@pytest.fixture
def store(object_store: Settings, tmp_path: Path) -> Store:
    return Store(object_store.model_copy(update={"home": tmp_path}))


@pytest.fixture
def contract(store: Store) -> Contract:
    """With features of two users in service, put there by run `r1`."""
    contract = make_contract(f"log_{uuid4().hex[:12]}")
    served = [impression(FIRST + timedelta(days=day), user_id=user) for day in range(3) for user in ("u0", "u1")]
    write_lake(store, contract, served)
    with recorded(store, "materialize", "r1", contract.source, {}):
        for update in (update_tiles, update_feature_tables, update_online_store):
            update(store, contract)
    return contract


@pytest.mark.parametrize("hours", [None, 5])
def test_what_was_just_materialized_has_no_skew(store: Store, contract: Contract, hours: int | None) -> None:
    if hours:  # what is served is compared as of its own time, however late decisions read it
        contract = LandingDelay(hours=hours).pinned(contract)
    differences, step = with_step(find_skew, store, contract)
    require_no_skew(store, contract, differences)
    columns = len(feature_columns(contract))
    assert step.metrics == {"rows_sampled": 2, "values_compared": 2 * columns, "differing": 0}


def test_a_value_that_somebody_else_wrote_is_named_with_both_writers(store: Store, contract: Contract) -> None:
    values = dict.fromkeys(table_columns(contract, "user_id"), 5.0)
    now = materialized_at(store, contract.source)
    row = pd.DataFrame([{"user_id": "u1", "event_timestamp": now, **values}])
    open_feature_store(store.settings).write_to_online_store(view_name(contract, "user_id"), row)
    differences, step = with_step(find_skew, store, contract)
    assert {(each.key, each.value) for each in differences} == {("user_id", "u1")}
    assert {each.feature for each in differences} == set(feature_columns(contract, "user_id"))
    assert step.metrics["differing"] == len(differences)
    with pytest.raises(SkewError) as caught:
        require_no_skew(store, contract, differences)
    said = str(caught.value)
    assert "user_id=u1 user_impressions_7d: online 5, offline 2" in said
    assert f"online values: {materialized_key(contract.source)}, written by materialize/r1" in said
    assert "date=2026-03-03/features.parquet, written by materialize/r1" in said


def test_a_value_that_is_missing_online_is_named(store: Store, contract: Contract, tmp_path: Path) -> None:
    elsewhere = Store(store.settings.model_copy(update={"home": tmp_path / "elsewhere"}))
    update_online_store(elsewhere, contract)  # makes the features known there
    late = [impression(FIRST + timedelta(days=2, hours=hours), user_id=user) for hours, user in ((0, "u2"), (2, "u0"))]
    write_lake(store, contract, late, "late")
    update_tiles(store, contract)
    update_feature_tables(store, contract)
    update_online_store(store, contract)
    missing = {each.value for each in find_skew(elsewhere, contract) if each.feature == "user_impressions_7d"}
    assert "u2" in missing


def test_what_left_the_lake_leaves_the_online_store(store: Store, contract: Contract) -> None:
    now = FIRST + timedelta(days=2, hours=3)
    gone, *_ = write_lake(store, contract, [impression(FIRST + timedelta(days=2, hours=1), user_id="u2")], "gone")
    write_lake(store, contract, [impression(now, user_id="u0")], "newest")
    seen = pd.DataFrame({"user_id": ["u2", "u1"], "ad_id": "a0", "event_timestamp": now})
    for is_known in (True, False):
        for update in (update_tiles, update_feature_tables, update_online_store):
            update(store, contract)
        assert find_skew(store, contract) == []
        found = online_features(store, contract, seen)["user_impressions_7d"]
        assert found.notna().tolist() == [is_known, True]
        store.delete([gone])


def test_a_source_without_impressions_has_no_skew(store: Store) -> None:
    differences, step = with_step(find_skew, store, make_contract(f"log_{uuid4().hex[:12]}"))
    assert (differences, step.is_reused) == ([], True)
