"""Feast's configuration from the settings."""

from pathlib import Path
from typing import Any

import pytest
from feast.infra.online_stores.redis import RedisOnlineStore
from lib.feature_lake import make_contract

from liftloop.features.definitions import TIME_TO_LIVE
from liftloop.features.feast_repo import feature_objects, repo_config
from liftloop.settings import Settings


def test_embedded_parts_lie_under_home(tmp_path: Path) -> None:
    config = repo_config(Settings(home=tmp_path))
    assert config.registry.path == f"sqlite:///{tmp_path}/feast/registry.db"
    assert config.online_store.path == f"{tmp_path}/feast/online_features.db"


def test_settings_move_them(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, feast_registry_url="sqlite:////elsewhere.db", redis_url="redis://cache")
    assert repo_config(settings).registry.path == "sqlite:////elsewhere.db"
    assert repo_config(settings).online_store.type == "redis"


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("redis://cache", {"ssl": False}),
        ("redis://cache:6380/2", {"ssl": False, "db": 2}),
        ("rediss://me:12%2034@cache:6380", {"ssl": True, "username": "me", "password": "12 34"}),
    ],
)
def test_feast_reads_the_address_of_redis(tmp_path: Path, url: str, options: dict[str, Any]) -> None:
    config = repo_config(Settings(home=tmp_path, redis_url=url)).online_store
    nodes, found = RedisOnlineStore._parse_connection_string(config.connection_string)
    assert nodes == [{"host": "cache", "port": "6380" if ":6380" in url else "6379"}]
    assert found == options


def test_sources_share_entities_and_nothing_else() -> None:
    objects = feature_objects([make_contract("one"), make_contract("other")], "bucket")
    assert sorted(item.name for item in objects) == sorted(
        ["user_id", "ad_id"]
        + [f"{source}_{rest}" for source in ("one", "other") for rest in ("user_id", "ad_id", "click_v1")]
    )


def test_every_view_expires() -> None:
    views = [item for item in feature_objects([make_contract("one")], "bucket") if hasattr(item, "ttl")]
    assert [view.ttl for view in views] == [TIME_TO_LIVE] * 2
    assert [view.batch_source.path for view in views] == [
        f"s3://bucket/features/one/{key}/*/features.parquet" for key in ("user_id", "ad_id")
    ]
