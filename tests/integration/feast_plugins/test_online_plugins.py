"""Our batch engine, online store and readers inside Feast: what Feast itself would write and read, and more."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import pyarrow as pa
import pytest
from feast import FeatureStore, FeatureView
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.types import Array, Bool, FeastType, Float32, Float64, Int32, Int64, String, UnixTimestamp
from lib import online_views
from lib.online_views import ENGINE, LOCAL, apply, embedded, make_view, materialize, redis, repository, times
from redis import Redis

from liftloop.feast_plugins.online_reader import FeatureRequest, RedisReader, SqliteReader, ViewSchema

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SCALARS: dict[str, Any] = {
    "double": (Float64, pa.array([1.5, None, float("nan"), -0.0, float("inf")])),
    "float": (Float32, pa.array([0.1, None, -3.0, 1e30, 0.0], pa.float32())),
    "int": (Int64, pa.array([0, -1, 2**62, 127, 128])),
    "sparse_int": (Int64, pa.array([None, 1, None, -(2**40), 0])),
    "small_int": (Int32, pa.array([0, -1, 2**31 - 1, None, 5], pa.int32())),
    "text": (String, pa.array(["", "ä", None, "x" * 300, "a\0b"])),
    "flag": (Bool, pa.array([True, False, None, False, True])),
    "time": (UnixTimestamp, times(NOON, None, datetime(1960, 1, 1, 0, 0, 0, 1, UTC), NOON, NOON)),
    "nothing": (Float64, pa.array([None] * 5, pa.float64())),
}
ROWS = {name: values for name, (_, values) in SCALARS.items()} | {
    "ad_id": pa.array(["a", "", "ü", "x" * 200, "e"]),
    "slot": pa.array([1, -2, 2**40, 0, 5]),
    "event_timestamp": times(NOON, NOON + timedelta(microseconds=1), datetime(1970, 1, 1, tzinfo=UTC), NOON, NOON),
}
TYPES = {name: kind for name, (kind, _) in SCALARS.items()}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return online_views.write_rows(tmp_path / "rows.parquet", ROWS)


def filled(feast: FeatureStore, *views: FeatureView) -> FeatureStore:
    apply(feast, *views)
    materialize(feast)
    return feast


def contents(redis_url: str, project: str) -> dict[bytes, dict[bytes, bytes]]:
    """All that Redis holds of a project, by key without the project's name."""
    with Redis.from_url(redis_url) as client:
        keys = client.keys(f"*{project}")
        return {key.removesuffix(project.encode()): client.hgetall(key) for key in keys}


class TestRedis:
    @pytest.mark.parametrize("keys", [{"ad_id": String}, {"slot": Int64}, {"slot": Int64, "ad_id": String}])
    def test_holds_the_bytes_that_feast_writes(
        self, redis_url: str, tmp_path: Path, table: Path, keys: dict[str, Any]
    ) -> None:
        found = {}
        for project, engine in ((f"own_{uuid4().hex[:8]}", ENGINE), (f"feast_{uuid4().hex[:8]}", LOCAL)):
            feast = repository(tmp_path / project, redis(redis_url), engine, project)
            filled(feast, make_view(table, TYPES, keys))
            found[engine["type"]] = contents(redis_url, project)
        ours, theirs = found.values()
        assert ours == theirs
        assert len(ours) == 5

    def test_many_rows_in_several_parts(self, redis_url: str, tmp_path: Path) -> None:
        rows: dict[str, Any] = {"ad_id": [f"a{n}" for n in range(5_001)], "value": [n / 7 for n in range(5_001)]}
        rows["event_timestamp"] = times(*([NOON] * 5_001))
        path, project = online_views.write_rows(tmp_path / "many.parquet", rows), f"many_{uuid4().hex[:8]}"
        filled(repository(tmp_path, redis(redis_url), project=project), make_view(path, {"value": Float64}))
        with Redis.from_url(redis_url) as client:
            served = ViewSchema("ads", ("ad_id",), ("value",), timedelta())
            (values,) = RedisReader(client, project).read(FeatureRequest(served, rows["ad_id"], 0))
        assert [value for (value,) in values] == rows["value"]


def stores(tmp_path: Path, request: pytest.FixtureRequest, kind: str) -> dict[str, Any]:
    return embedded(tmp_path) if kind == "embedded" else redis(request.getfixturevalue("redis_url"))


@pytest.mark.parametrize("kind", ["embedded", "redis"])
class TestReaders:
    def test_values_are_those_of_feast(
        self, tmp_path: Path, table: Path, request: pytest.FixtureRequest, kind: str
    ) -> None:
        project = f"read_{uuid4().hex[:8]}"
        feast = repository(tmp_path, stores(tmp_path, request, kind), project=project)
        features = {name: kind for name, kind in TYPES.items() if name != "time"}
        filled(feast, make_view(table, features, {"slot": Int64, "ad_id": String}))
        keys = list(zip(ROWS["slot"].to_pylist(), ROWS["ad_id"].to_pylist(), strict=True))
        rows = [{"slot": slot, "ad_id": ad} for slot, ad in [*keys, (1, "stranger")]]
        theirs = feast.get_online_features([f"ads:{name}" for name in features], rows).to_dict()
        served = ViewSchema("ads", ("slot", "ad_id"), tuple(features), timedelta())
        with reader_of(feast, project) as reader:
            (ours,) = reader.read(FeatureRequest(served, [*keys, (1, "stranger")], 0))
        assert ours == list(zip(*(theirs[name] for name in features), strict=True))
        assert ours[-1] == (None,) * len(features) != ours[0]

    def test_a_correction_with_the_same_event_time_is_applied(
        self, tmp_path: Path, request: pytest.FixtureRequest, kind: str
    ) -> None:
        project = f"late_{uuid4().hex[:8]}"
        feast = repository(tmp_path, stores(tmp_path, request, kind), project=project)
        path = tmp_path / "rows.parquet"
        view = make_view(path, {"value": Float64})
        values = []
        for value, event in ((1.0, NOON), (2.0, NOON), (3.0, NOON - timedelta(hours=1))):
            rows = {"ad_id": pa.array(["a"]), "value": pa.array([value]), "event_timestamp": times(event)}
            online_views.write_rows(path, rows)
            filled(feast, view)
            values += feast.get_online_features(["ads:value"], [{"ad_id": "a"}]).to_dict()["value"]
        assert values == [1.0, 2.0, 2.0]

    def test_types_that_we_do_not_encode_go_feasts_way(
        self, tmp_path: Path, request: pytest.FixtureRequest, kind: str
    ) -> None:
        project = f"list_{uuid4().hex[:8]}"
        rows = {"ad_id": pa.array(["a"]), "value": pa.array([[1.0, 2.0]]), "event_timestamp": times(NOON)}
        path = online_views.write_rows(tmp_path / "lists.parquet", rows)
        feast = repository(tmp_path, stores(tmp_path, request, kind), project=project)
        filled(feast, make_view(path, {"value": Array(Float64)}))
        assert feast.get_online_features(["ads:value"], [{"ad_id": "a"}]).to_dict()["value"] == [[1.0, 2.0]]

    def test_several_views_and_one_that_fails(
        self, tmp_path: Path, table: Path, request: pytest.FixtureRequest, kind: str
    ) -> None:
        project = f"many_{uuid4().hex[:8]}"
        keyless = {"ad_id": pa.array([None], pa.string()), "double": pa.array([1.0]), "event_timestamp": times(NOON)}
        broken = make_view(
            online_views.write_rows(tmp_path / "keyless.parquet", keyless), {"double": Float64}, name="broken"
        )
        views = [make_view(table, {"double": Float64}, name=f"view_{number}") for number in range(5)]
        feast = repository(tmp_path, stores(tmp_path, request, kind), project=project)
        apply(feast, broken, *views)
        with pytest.raises(ValueError, match="ad_id is NULL in 1 rows"):
            materialize(feast)
        refs = [f"{view.name}:double" for view in views]
        found = feast.get_online_features(refs, [{"ad_id": "a"}], full_feature_names=True).to_dict()
        assert [found[f"{view.name}__double"] for view in views] == [[1.5]] * 5


def reader_of(feast: FeatureStore, project: str) -> Any:
    options = feast.config.online_store
    if options.type == "redis":
        return RedisReader(RedisOnlineStore()._get_client(options), project)
    return SqliteReader(Path(options.path), project)


class TestEmbedded:
    def test_expired_rows_are_not_served_by_feast_either(self, tmp_path: Path) -> None:
        now = datetime.now(UTC)
        rows = {"ad_id": ["old", "new"], "value": [1.0, 2.0]}
        rows["event_timestamp"] = times(now - timedelta(hours=2), now)
        path = online_views.write_rows(tmp_path / "rows.parquet", rows)
        view = make_view(path, {"value": Float64}, ttl=timedelta(hours=1))
        feast = filled(repository(tmp_path, embedded(tmp_path)), view)
        found = feast.get_online_features(["ads:value"], [{"ad_id": "old"}, {"ad_id": "new"}]).to_dict()
        assert found["value"] == [None, 2.0]

    def test_a_view_may_change_and_go(self, tmp_path: Path, table: Path) -> None:
        feast = filled(repository(tmp_path, embedded(tmp_path)), make_view(table, {"double": Float64, "int": Int64}))
        apply(feast, make_view(table, {"double": String, "int": Int64, "text": String}))
        served = ViewSchema("ads", ("ad_id",), ("double", "int", "text"), timedelta())
        with reader_of(feast, feast.project) as reader:
            assert reader.read(FeatureRequest(served, ["a"], 0)) == [[(None, 0, None)]]
        feast.teardown()  # type: ignore[no-untyped-call]
        with reader_of(feast, feast.project) as reader, pytest.raises(LookupError, match=r"no such table: p[0-9]+_ads"):
            reader.read(FeatureRequest(served, ["a"], 0))

    @pytest.mark.parametrize(
        ("name", "before", "after"),
        [("int", Int64, Int32), ("small_int", Int32, Bool), ("small_int", Int32, UnixTimestamp)],
    )
    def test_values_of_another_type_are_missing(
        self, tmp_path: Path, table: Path, name: str, before: FeastType, after: FeastType
    ) -> None:
        feast = filled(repository(tmp_path, embedded(tmp_path)), make_view(table, {name: before, "text": String}))
        apply(feast, make_view(table, {name: after, "text": String}))
        found = feast.get_online_features([f"ads:{name}", "ads:text"], [{"ad_id": "ü"}, {"ad_id": "a"}]).to_dict()
        assert (found[name], found["text"]) == ([None, None], [None, ""])

    def test_a_time_that_is_pushed_as_missing_is_missing(self, tmp_path: Path, table: Path) -> None:
        feast = repository(tmp_path, embedded(tmp_path))
        apply(feast, make_view(table, {"time": UnixTimestamp}))
        pushed = pd.DataFrame({"ad_id": ["a", "b"], "time": [NOON, pd.NaT], "event_timestamp": [NOON, NOON]})
        feast.write_to_online_store("ads", pushed)
        with reader_of(feast, feast.project) as reader:
            served = ViewSchema("ads", ("ad_id",), ("time",), timedelta())
            assert reader.read(FeatureRequest(served, ["a", "b"], 0)) == [[(NOON.timestamp(),), (None,)]]

    def test_a_feature_that_is_not_there_is_named(self, tmp_path: Path, table: Path) -> None:
        feast = filled(repository(tmp_path, embedded(tmp_path)), make_view(table, {"double": Float64}))
        with reader_of(feast, feast.project) as reader, pytest.raises(LookupError, match="no such column"):
            reader.read(FeatureRequest(ViewSchema("ads", ("ad_id",), ("other",), timedelta()), ["a"], 0))

    def test_a_store_that_was_never_made(self, tmp_path: Path) -> None:
        with pytest.raises(LookupError, match="Run `feast apply`"):
            SqliteReader(tmp_path / "nowhere.db", "liftloop")

    @pytest.mark.slow
    def test_writers_in_several_processes(self, tmp_path: Path, table: Path) -> None:
        """Each writes every key, its own times in an order of its own; the newest has to stand."""
        feast = repository(tmp_path, embedded(tmp_path), project="shared")
        apply(feast, make_view(table, {"double": Float64}))
        processes = [
            subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path), str(number)]) for number in range(3)
        ]
        assert [process.wait(timeout=300) for process in processes] == [0] * 3
        served = ViewSchema("ads", ("ad_id",), ("double",), timedelta())
        with reader_of(feast, feast.project) as reader:
            (found,) = reader.read(FeatureRequest(served, [f"a{number}" for number in range(200)], 0))
        assert found == [(38.0,)] * 200


_WRITER = """
import random, sys
from pathlib import Path
sys.path.insert(0, "tests")
import pyarrow as pa
from lib import online_views
from feast.types import Float64
from liftloop.feast_plugins.arrow_encoding import ViewRows

home, number = Path(sys.argv[1]), int(sys.argv[2])
feast = online_views.repository(home, online_views.embedded(home), project="shared")
view = feast.get_feature_view("ads")
seconds = list(range(number, 39, 3))
random.Random(number).shuffle(seconds)
for second in seconds:
    table = pa.table({
        "ad_id": [f"a{key}" for key in range(200)],
        "double": [float(second)] * 200,
        "event_timestamp": pa.array([second] * 200, pa.timestamp("s", tz="UTC")),
    })
    feast._get_provider().online_store.write_rows(feast.config, ViewRows(view, table, "event_timestamp"))
"""
