"""The online stores against a dictionary: whatever order writes come in, the newest is read, while it lives."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pytest
from feast import FeatureView, RepoConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Float64
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lib import online_views
from redis import Redis

from liftloop.feast_plugins.arrow_encoding import ViewRows
from liftloop.feast_plugins.online_reader import FeatureRequest, OnlineReader, RedisReader, SqliteReader, ViewSchema
from liftloop.feast_plugins.online_store import WideSqliteOnlineStore
from liftloop.feast_plugins.redis_writer import write_rows

KEYS = ("", "a", "b", "ü")
STRANGER = "stranger"
TTL = timedelta(seconds=3)
FIRST = datetime(1969, 12, 31, 23, 59, 57, tzinfo=UTC)  # times on both sides of 1970
ROUNDING = timedelta(microseconds=1)


@dataclass(frozen=True)
class Write:
    key: str
    event: datetime
    created: datetime | None
    value: float | None


moments = st.builds(
    lambda seconds, rest: FIRST + timedelta(seconds=seconds) + rest * ROUNDING, st.integers(0, 8), st.integers(-1, 1)
)
writes = st.builds(Write, st.sampled_from(KEYS), moments, st.none() | moments, st.none() | st.floats(allow_nan=False))
batches = st.lists(st.lists(writes, min_size=1, max_size=5), max_size=6)

Put = Callable[[FeatureView, list[Write]], None]


def newest(batches: list[list[Write]], *, knows_created: bool) -> dict[str, Write]:
    """What a store has to hold: newer event wins, then newer created, then the later write."""

    def age(write: Write) -> tuple[datetime, bool, datetime]:
        created = write.created if knows_created else None
        return write.event, created is not None, created or FIRST

    stored: dict[str, Write] = {}
    for write in (write for batch in batches for write in batch):
        if write.key not in stored or age(write) >= age(stored[write.key]):
            stored[write.key] = write
    return stored


def value_of(write: Write | None, now: datetime) -> tuple[float | None, ...]:
    return (write.value if write and now <= write.event + TTL else None,)


def new_view() -> FeatureView:
    return online_views.make_view(Path("nowhere"), {"value": Float64}, name=f"view_{uuid4().hex[:12]}", ttl=TTL)


def assert_read(reader: OnlineReader, view: FeatureView, stored: dict[str, Write], now: datetime) -> None:
    served = ViewSchema(view.name, ("ad_id",), ("value",), TTL)
    keys = [*KEYS, STRANGER, KEYS[0]]
    now_us = (now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    expected = [value_of(stored.get(key), now) for key in keys]
    assert (
        reader.read(FeatureRequest(served, keys, now_us), FeatureRequest(served, keys, [now_us] * len(keys)))
        == [expected] * 2
    )


def as_columns(view: FeatureView, batch: list[Write]) -> ViewRows:
    table = pa.table(
        {
            "ad_id": pa.array([write.key for write in batch], pa.string()),
            "value": pa.array([write.value for write in batch], pa.float64()),
            "event": online_views.times(*(write.event for write in batch)),
            "created": online_views.times(*(write.created for write in batch)),
        }
    )
    return ViewRows(view, table, "event", "created")


def as_protos(batch: list[Write]) -> list[tuple[EntityKey, dict[str, Value], datetime, datetime | None]]:
    return [
        (
            EntityKey(join_keys=["ad_id"], entity_values=[Value(string_val=write.key)]),
            {"value": Value() if write.value is None else Value(double_val=write.value)},
            write.event,
            write.created,
        )
        for write in batch
    ]


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> tuple[WideSqliteOnlineStore, RepoConfig, SqliteReader]:
    home = tmp_path_factory.mktemp("embedded")
    config = online_views.repository(home, online_views.embedded(home)).config
    store = WideSqliteOnlineStore()
    store.update(config, [], [], [], [], partial=True)  # makes the file
    return store, config, SqliteReader(Path(config.online_store.path), config.project)


EQUAL_TIMES = [[Write("a", FIRST, FIRST, 1.0)], [Write("a", FIRST, None, 2.0)], [Write("a", FIRST, FIRST, 3.0)]]


@settings(max_examples=60)
@example(batches=EQUAL_TIMES, in_bulk=True, now=FIRST + TTL)
@example(batches=EQUAL_TIMES, in_bulk=False, now=FIRST + TTL + ROUNDING)
@given(batches=batches, in_bulk=st.booleans(), now=moments)
def test_embedded(
    embedded: tuple[WideSqliteOnlineStore, RepoConfig, SqliteReader],
    batches: list[list[Write]],
    in_bulk: bool,
    now: datetime,
) -> None:
    store, config, reader = embedded
    view = new_view()
    store.update(config, [], [view], [], [], partial=True)
    for batch in batches:
        if in_bulk:
            store.write_rows(config, as_columns(view, batch))
        else:
            store.online_write_batch(config, view, as_protos(batch), None)
    assert_read(reader, view, newest(batches, knows_created=True), now)
    store.teardown(config, [view], [])


@settings(max_examples=60)
@example(batches=EQUAL_TIMES, now=FIRST + TTL)
@given(batches=batches, now=moments)
def test_redis(
    redis_url: str, tmp_path_factory: pytest.TempPathFactory, batches: list[list[Write]], now: datetime
) -> None:
    """Feast's layout has no created time there: of equal event times the later write wins."""
    config = online_views.repository(tmp_path_factory.getbasetemp(), online_views.redis(redis_url)).config
    view = new_view()
    with Redis.from_url(redis_url) as client:
        for batch in batches:
            write_rows(client, config, as_columns(view, batch))
        assert_read(RedisReader(client, config.project), view, newest(batches, knows_created=False), now)
