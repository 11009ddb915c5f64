"""Tiles, feature tables and online store on a real object store, and Feast's own commands in `feature_repo/`."""

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64, String
from lib.feature_lake import impression, make_contract, write_lake
from lib.projects import REPOSITORY

from liftloop.contract.contract import Contract
from liftloop.contract.loading import declared_sources, load_contract
from liftloop.features.definitions import TIME_TO_LIVE, feature_columns, feature_service_name
from liftloop.features.feast_repo import open_feature_store
from liftloop.features.lookup import historical_features, online_features
from liftloop.features.materialize import update_online_store
from liftloop.features.tiles import update_tiles
from liftloop.features.windows import update_feature_tables
from liftloop.settings import Settings, load_settings
from liftloop.stack.parts import SCRIPTS
from liftloop.storage.runs import Step
from liftloop.storage.store import Store

FIRST = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def store(object_store: Settings, tmp_path: Path) -> Store:
    """A Feast registry and an online store of its own for each test."""
    return Store(object_store.model_copy(update={"home": tmp_path}))


@pytest.fixture
def contract(store: Store) -> Contract:
    """A source of its own for each test, with an impression on each of twelve days in its lake."""
    return twelve_days(store)


@pytest.fixture(scope="module")
def built(object_store: Settings, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Contract]:
    """Such a source with its features, for tests that only read."""
    store = Store(object_store.model_copy(update={"home": tmp_path_factory.mktemp("built")}))
    contract = twelve_days(store)
    update_all(store, contract)
    return store, contract


def twelve_days(store: Store) -> Contract:
    contract = new_contract()
    write_lake(store, contract, [impression(FIRST + number * DAY) for number in range(12)])
    return contract


def new_contract(horizon: str = "1d") -> Contract:
    return make_contract(f"log_{uuid4().hex[:12]}", horizon=horizon)


def update_all(store: Store, contract: Contract) -> list[Step]:
    return [update(store, contract) for update in (update_tiles, update_feature_tables, update_online_store)]


def days(step: Step) -> list[int]:
    """The days of March that the step wrote partitions of."""
    return sorted({int(ref.key.split("date=2026-03-")[1][:2]) for ref in step.outputs})


def rows_at(now: datetime, users: tuple[str | None, ...] = ("u0", "stranger", None)) -> pd.DataFrame:
    return pd.DataFrame({"user_id": users, "ad_id": "a0", "event_timestamp": now})


class TestSteps:
    def test_a_second_run_computes_nothing(self, store: Store, contract: Contract) -> None:
        first, second = update_all(store, contract), update_all(store, contract)
        assert [step.is_reused for step in (*first, *second)] == [False] * 3 + [True] * 3
        assert [step.outputs for step in second] == [(), (), first[2].outputs]  # the record of what is served
        assert first[0].metrics["partitions_built"] == second[0].metrics["partitions_reused"] == 24
        assert first[2].metrics["keys_online"] == second[2].metrics["keys_online"] == {"user_id": 1, "ad_id": 1}

    def test_steps_say_what_they_read_and_wrote(self, store: Store, contract: Contract) -> None:
        tiles, tables, online = update_all(store, contract)
        assert len(tiles.inputs) == 12
        assert set(tables.inputs) == set(tiles.outputs)
        assert set(online.inputs) < set(tables.outputs)
        assert all(store.find(ref.key) == ref for step in (tiles, tables, online) for ref in step.outputs)

    def test_one_more_day_leaves_the_history_alone(self, store: Store, contract: Contract) -> None:
        update_all(store, contract)
        write_lake(store, contract, [impression(FIRST + 12 * DAY)])
        tiles, tables, online = update_all(store, contract)
        assert (days(tiles), days(tables), online.is_reused) == ([13], [13], False)

    def test_a_late_file_opens_only_the_days_that_it_reaches(self, store: Store, contract: Contract) -> None:
        update_all(store, contract)
        write_lake(store, contract, [impression(FIRST + DAY, user_id="u1")], "late")
        tiles, tables, online = update_all(store, contract)
        assert days(tiles) == [2, 3]  # outcomes may come a day later
        assert days(tables) == list(range(2, 11))
        assert not online.is_reused
        offline = historical_features(store, contract, rows_at(FIRST + 3 * DAY, ("u1",)))
        assert offline["user_impressions_7d"].tolist() == [1]

    def test_a_withdrawn_file_takes_its_partitions_along(self, store: Store) -> None:
        contract = new_contract()
        old, _ = write_lake(store, contract, [impression(FIRST), impression(FIRST + 30 * DAY)])
        update_all(store, contract)
        store.delete([old])
        update_all(store, contract)
        keys = [item.key for prefix in ("tiles", "features") for item in store.list(f"{prefix}/{contract.source}/")]
        assert {key.split("date=")[1][:10] for key in keys if "date=" in key} == {"2026-03-31"}

    def test_an_empty_lake_has_no_features(self, store: Store) -> None:
        steps = update_all(store, new_contract())
        assert all(step.is_reused and not step.outputs for step in steps)

    def test_another_home_fills_its_own_online_store(self, store: Store, contract: Contract, tmp_path: Path) -> None:
        update_all(store, contract)
        elsewhere = Store(store.settings.model_copy(update={"home": tmp_path / "elsewhere"}))
        assert not update_online_store(elsewhere, contract).is_reused
        assert online_features(elsewhere, contract, rows_at(FIRST + 11 * DAY))["user_impressions_7d"].notna().any()

    def test_many_keys_reach_the_online_store(self, store: Store) -> None:
        contract = new_contract()
        write_lake(store, contract, [impression(FIRST, user_id=f"u{number}") for number in range(12_000)])
        write_lake(store, contract, [impression(FIRST + DAY)], "as-of")
        assert update_all(store, contract)[2].metrics["keys_online"]["user_id"] == 12_000
        found = online_features(store, contract, rows_at(FIRST + DAY, tuple(f"u{n}" for n in range(12_000))))
        assert found["user_impressions_7d"].tolist() == [1] * 12_000


class TestRows:
    def test_rows_keep_order_index_and_columns(self, built: tuple[Store, Contract]) -> None:
        store, contract = built
        times = [FIRST + 11 * DAY, FIRST, FIRST + 11 * DAY, FIRST + 4 * DAY]
        rows = pd.DataFrame(
            {"event_timestamp": times, "note": list("dcba"), "ad_id": "a0", "user_id": "u0"}, list("zzxy")
        )
        found = historical_features(store, contract, rows)
        pd.testing.assert_frame_equal(found[list(rows.columns)], rows)
        assert list(found.columns) == [*rows.columns, *feature_columns(contract)]
        np.testing.assert_array_equal(found["ad_impressions_7d"], [7, np.nan, 7, 4])

    def test_times_without_a_zone_are_utc(self, built: tuple[Store, Contract]) -> None:
        store, contract = built
        aware = historical_features(store, contract, rows_at(FIRST + 5 * DAY))
        naive = historical_features(store, contract, rows_at((FIRST + 5 * DAY).replace(tzinfo=None)))
        pd.testing.assert_frame_equal(aware[feature_columns(contract)], naive[feature_columns(contract)])

    def test_no_rows(self, built: tuple[Store, Contract]) -> None:
        store, contract = built
        found = historical_features(store, contract, rows_at(FIRST).iloc[:0])
        assert found.empty
        assert set(feature_columns(contract)) < set(found.columns)

    def test_a_missing_key_column_is_named(self, built: tuple[Store, Contract]) -> None:
        with pytest.raises(KeyError, match="user_id"):
            historical_features(*built, rows_at(FIRST).drop(columns="user_id"))

    def test_a_silent_key_is_missing_online_too(self, built: tuple[Store, Contract]) -> None:
        store, contract = built
        newest_row = datetime(2026, 3, 11, 14, tzinfo=UTC)  # when yesterday's impression left the shortest window
        for late, is_missing in ((timedelta(), False), (timedelta(microseconds=1), True)):
            rows = rows_at(newest_row + TIME_TO_LIVE + late)
            found = online_features(store, contract, rows)
            assert found["ad_impressions_7d"].isna().all() == is_missing
            assert found["user_impressions_7d"].isna().tolist() == [is_missing, True, True]


class TestFeastCommands:
    @pytest.mark.slow
    def test_apply_in_the_repository(self, store: Store) -> None:
        feast_apply(store.settings)
        feast = open_feature_store(store.settings)
        contracts = [load_contract(source, REPOSITORY / "contracts") for source in declared_sources()]
        services = {service.name for service in feast.list_feature_services()}
        assert services == {feature_service_name(contract) for contract in contracts}
        view = feast.list_feature_views()[0]
        feast.registry.apply_materialization(view, feast.project, FIRST, FIRST + DAY)
        feast_apply(store.settings)
        assert open_feature_store(store.settings).get_feature_view(view.name).most_recent_end_time == FIRST + DAY

    def test_settings_are_those_of_the_project(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("contracts", "feature_repo"):
            (tmp_path / name).mkdir()
        (tmp_path / ".env").write_text("LIFTLOOP_BUCKET=elsewhere\n")
        monkeypatch.delenv("LIFTLOOP_BUCKET", raising=False)
        monkeypatch.setenv("LIFTLOOP_HOME", "state")
        monkeypatch.chdir(tmp_path / "feature_repo")
        settings = load_settings()
        assert (settings.home, settings.bucket) == (tmp_path / "state", "elsewhere")


def feast_apply(settings: Settings) -> None:
    """`feast apply` in `feature_repo/`, with nothing but the settings to tell it where everything is."""
    command, folder = [str(SCRIPTS / "feast"), "apply"], REPOSITORY / "feature_repo"
    done = subprocess.run(
        command, cwd=folder, env=os.environ | settings.as_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr  # such as a question to AWS
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == {"definitions.py", "feature_store.yaml"}


class TestAsofStore:
    """Our offline store against Feast's own, on local files, where that one can read them."""

    @pytest.fixture
    def table(self, tmp_path: Path) -> Path:
        """Hourly features of three ads with ties in event time, of which the newest created counts."""
        rng = np.random.default_rng(3)
        rows = pd.DataFrame({"ad_id": rng.choice(["a0", "a1", "a2"], 300), "value": np.arange(300.0)})
        rows["event_timestamp"] = pd.Timestamp(FIRST) + pd.to_timedelta(rng.integers(0, 100, 300), "h")
        rows["created"] = rows["event_timestamp"] + pd.to_timedelta(rng.permutation(300), "s")
        rows.to_parquet(tmp_path / "table.parquet")
        return tmp_path / "table.parquet"

    @pytest.fixture
    def entities(self) -> pd.DataFrame:
        rng = np.random.default_rng(4)
        hours = rng.integers(-5, 200, 500)
        names = np.array(["a0", "a1", "stranger"])
        return pd.DataFrame(
            {
                "row": np.arange(500),
                "shown_ad": rng.choice(names, 500),
                "rival_ad": rng.choice(names, 500),
                "event_timestamp": (pd.Timestamp(FIRST) + pd.to_timedelta(hours, "h")).as_unit("us"),
            }
        )

    @pytest.mark.parametrize("ttl", [timedelta(), timedelta(hours=7)])
    def test_values_are_those_of_feast(
        self, tmp_path: Path, table: Path, entities: pd.DataFrame, ttl: timedelta
    ) -> None:
        ours = {"type": "liftloop.feast_plugins.offline_store.AsofDuckDBOfflineStore"}
        found = joined(tmp_path, ours, table, entities, ttl)
        expected = joined(tmp_path, {"type": "duckdb"}, table, entities, ttl)
        assert found["row"].tolist() == entities["row"].tolist()
        pd.testing.assert_frame_equal(found, expected.sort_values("row", ignore_index=True)[found.columns])
        assert 0 < found["shown__value"].isna().mean() < 1


def joined(
    home: Path, offline_store: dict[str, Any], table: Path, entities: pd.DataFrame, ttl: timedelta
) -> pd.DataFrame:
    """One view joined twice, by the ad that was shown and by its rival."""
    ad = Entity(name="ad_id", value_type=ValueType.STRING)
    source = FileSource(path=str(table), timestamp_field="event_timestamp", created_timestamp_column="created")
    schema = [Field(name="ad_id", dtype=String), Field(name="value", dtype=Float64)]
    view = FeatureView(name="hourly", entities=[ad], schema=schema, source=source, ttl=ttl)
    sides = [view.with_name(side).with_join_key_map({"ad_id": f"{side}_ad"}) for side in ("shown", "rival")]
    service = FeatureService(name="both", features=sides)
    config = RepoConfig(
        project="asof",
        provider="local",
        registry=str(home / f"{offline_store['type']}.db"),
        offline_store=offline_store,
        online_store={"type": "sqlite", "path": str(home / "asof.db")},
        entity_key_serialization_version=3,
    )
    feast = FeatureStore(config=config)
    feast.apply([ad, view, service])
    return feast.get_historical_features(entities, service, full_feature_names=True).to_df()
