"""Parts that settings point elsewhere: a real Redis and a real PostgreSQL, skipped where they are not installed."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pandas as pd
import pytest
from lib.feature_lake import impression, make_contract, write_lake
from lib.servers import free_port, server

from liftloop.features.definitions import feature_columns, feature_service_name
from liftloop.features.feast_repo import apply_features, open_feature_store
from liftloop.features.lookup import historical_features, online_features
from liftloop.features.materialize import update_online_store
from liftloop.features.tiles import update_tiles
from liftloop.features.windows import update_feature_tables
from liftloop.settings import Settings
from liftloop.storage.store import Store

FIRST = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
_POSTGRES_FOLDERS = ":".join([os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])


@pytest.fixture
def postgres_url() -> Iterator[str]:
    initdb = shutil.which("initdb", path=_POSTGRES_FOLDERS)
    if initdb is None:
        pytest.skip("PostgreSQL is not installed")
    account = {"user": "postgres"} if os.getuid() == 0 else {}  # it refuses to run as root
    if account and "postgres" not in {entry.pw_name for entry in pwd.getpwall()}:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    folder, port = Path(f"/tmp/liftloop-postgres-{uuid4().hex[:8]}"), free_port()
    try:
        subprocess.run(
            [initdb, "-D", folder, "-U", "liftloop", "-A", "trust"], check=True, capture_output=True, **account
        )  # type: ignore[call-overload]
        binary = Path(initdb).with_name("postgres")
        with server(
            [str(binary), "-D", str(folder), "-p", str(port), "-k", str(folder), "-h", "127.0.0.1"], port, **account
        ):
            yield f"postgresql+psycopg://liftloop@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def assert_online_is_offline(settings: Settings) -> None:
    store, contract = Store(settings), make_contract(f"s{uuid4().hex[:8]}")
    served = [impression(FIRST + n * timedelta(hours=5), user_id=f"u{n % 4}", click=n % 2) for n in range(40)]
    write_lake(store, contract, served)
    for update in (update_tiles, update_feature_tables, update_online_store):
        update(store, contract)
    now = served[-1]["event_timestamp"]
    rows = pd.DataFrame({"user_id": [f"u{n}" for n in range(5)], "ad_id": "a0", "event_timestamp": now})
    online, offline = online_features(store, contract, rows), historical_features(store, contract, rows)
    pd.testing.assert_frame_equal(online, offline)
    assert online[feature_columns(contract)].notna().any(axis=None)


def test_online_features_in_redis(object_store: Settings, redis_url: str, tmp_path: Path) -> None:
    assert_online_is_offline(object_store.model_copy(update={"home": tmp_path, "redis_url": redis_url}))


def test_feature_registry_in_postgres(object_store: Settings, postgres_url: str, tmp_path: Path) -> None:
    settings = object_store.model_copy(update={"home": tmp_path, "feast_registry_url": postgres_url})
    assert_online_is_offline(settings)
    contract = make_contract("elsewhere")
    apply_features(Store(settings), [contract])
    other_home = settings.model_copy(update={"home": tmp_path / "other"})
    assert open_feature_store(other_home).get_feature_service(feature_service_name(contract))
