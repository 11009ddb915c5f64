"""The offline store against `pandas.merge_asof`, on local Parquet files."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import LocalCluster
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.types import Float64, String
from hypothesis import example, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from liftloop.feast_plugins.asof_join import FeatureTableError
from liftloop.feast_plugins.offline_store import AsofDuckDBOfflineStore, AsofDuckDBOfflineStoreConfig

Row = dict[str, Any]

FIRST = datetime(2026, 3, 1, tzinfo=UTC)
HOUR, DAY, INSTANT = timedelta(hours=1), timedelta(days=1), timedelta(microseconds=1)
TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema({"user": pa.string(), "ad": pa.string(), "at": TIME, "made": TIME, "raw": pa.float64()})

# Few keys and moments, so that rows tie and meet the boundaries of days, TTLs and parts; some weeks, for several parts.
days = st.sampled_from([0, 1, 2, 6, 7, 8, 9, 16, 40]).map(lambda number: number * DAY)
parts_of_day = st.sampled_from([timedelta(), INSTANT, HOUR, DAY - INSTANT])
times = st.builds(lambda day, part: FIRST + day + part, days, parts_of_day)
delays = st.sampled_from([None, -HOUR, timedelta(), HOUR, 2 * DAY])
users, ads = st.sampled_from(["u0", "u1", None]), st.sampled_from(["a0", "a1", None])


@st.composite
def feature_rows(draw: st.DrawFn) -> Row:
    at, delay = draw(times), draw(delays)
    made = None if delay is None else at + delay
    return {"user": draw(users), "ad": draw(ads), "at": at, "made": made, "raw": draw(st.sampled_from([None, 1.0]))}


tables = st.lists(feature_rows(), max_size=40)
questions = st.lists(st.tuples(users, ads, ads, st.none() | times), max_size=40)
zones = st.sampled_from([None, "UTC", "America/St_Johns"])


def write(folder: Path, rows: list[Row]) -> pd.DataFrame:
    """The same rows in one file and in two for each day; returns them as they were written, all values different."""
    shutil.rmtree(folder / "daily", ignore_errors=True)
    frame = pd.DataFrame(rows, columns=SCHEMA.names)
    frame["raw"] *= range(len(rows))
    day = [row["at"].date() for row in rows]
    frame = frame.assign(day=day, file=[number % 2 for number in range(len(rows))])
    frame = frame.sort_values(["day", "file"], ignore_index=True)
    _write(folder / "whole.parquet", frame)
    _write(folder / "daily/date=2026-01-01/0.parquet", frame.iloc[:0])  # a source has a file, if not a row
    for (date, file), part in frame.groupby(["day", "file"]):
        _write(folder / f"daily/date={date}/{file}.parquet", part)
    return frame.drop(columns=["day", "file"])


def _write(file: Path, rows: pd.DataFrame) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pandas(rows, SCHEMA, preserve_index=False), file)


def asked(rows: list[tuple[Any, ...]], zone: str | None = "UTC") -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["user", "ad", "rival", "event_timestamp"], index=[0] * len(rows))
    moments = pd.to_datetime(frame["event_timestamp"], utc=True).astype("datetime64[us, UTC]")
    return frame.assign(event_timestamp=moments.dt.tz_convert(zone), note=range(len(rows)))


def merged(
    entities: pd.DataFrame, rows: pd.DataFrame, keys: dict[str, str], ttl: timedelta, order: list[str]
) -> "pd.Series[float]":
    """What pandas finds, which knows no ties and no NULL times; and for it NULL equals NULL."""
    rows = rows.dropna(subset=list(keys)).sort_values(order, na_position="first", kind="stable")
    found = pd.merge_asof(
        entities.dropna(subset=["event_timestamp"]).sort_values("event_timestamp"),
        rows[[*keys, "at", "raw"]].rename(columns=keys).astype({"at": "datetime64[us, UTC]"}),
        left_on="event_timestamp",
        right_on="at",
        by=list(keys.values()),
        tolerance=ttl or None,
    )
    values: pd.Series[float] = found.set_index("note")["raw"].astype(float).reindex(entities["note"])
    return values


def merged_when_created(entities: pd.DataFrame, rows: pd.DataFrame, *rest: Any) -> "pd.Series[float]":
    """The same, each row from those feature rows alone that were created by then."""
    moments = entities["event_timestamp"]
    found = [merged(entities[moments == now], rows[rows["made"] <= now], *rest) for now in moments.dropna().unique()]
    values: pd.Series[float] = pd.concat([pd.Series(dtype=float), *found]).reindex(entities["note"])
    return values


JOINS: dict[str, tuple[dict[str, str], timedelta, list[str]]] = {
    "shown": ({"ad": "ad"}, DAY + HOUR, ["at", "made"]),  # these two are one view
    "rival": ({"ad": "rival"}, DAY + HOUR, ["at", "made"]),
    "pair": ({"user": "user", "ad": "ad"}, 2 * DAY, ["at"]),
    "rivals": ({"user": "user", "ad": "rival"}, 2 * DAY, ["at"]),  # the pair again, with one of its keys renamed
    "long": ({"ad": "ad"}, 9 * DAY, ["at", "made"]),
    "endless": ({"user": "user"}, timedelta(), ["at", "made"]),
}


def expected(entities: pd.DataFrame, rows: pd.DataFrame, *, is_filtered: bool = False) -> pd.DataFrame:
    found = entities.assign(event_timestamp=pd.to_datetime(entities["event_timestamp"], utc=True))
    found = found.reset_index(drop=True)
    columns = {
        f"{name}__value": (merged_when_created if is_filtered and "made" in order else merged)(
            found, rows, keys, ttl, order
        ).to_numpy()
        for name, (keys, ttl, order) in JOINS.items()
    }
    return found.assign(**columns)


def open_feast(folder: Path) -> FeatureStore:
    """All joins as one service; its views read `folder`."""
    whole = FileSource(path=f"{folder}/whole.parquet", timestamp_field="at", field_mapping={"raw": "value"})
    daily = FileSource(
        path=f"{folder}/daily/*/*.parquet",
        timestamp_field="at",
        created_timestamp_column="made",
        field_mapping={"raw": "value"},
    )
    entities = {name: Entity(name=name, value_type=ValueType.STRING) for name in ("user", "ad")}
    views = {
        name: FeatureView(
            name=name,
            entities=[entities[key] for key in keys],
            schema=[*(Field(name=key, dtype=String) for key in keys), Field(name="value", dtype=Float64)],
            source=daily if "made" in order else whole,
            ttl=ttl,
        )
        for name, (keys, ttl, order) in JOINS.items()
        if name not in {"rival", "rivals"}
    }
    once, twice = [views["long"], views["endless"]], views["shown"]
    sides = [
        twice.with_name(side).with_join_key_map({"ad": key}) for side, key in (("shown", "ad"), ("rival", "rival"))
    ]
    sides += [views["pair"].with_name("pair"), views["pair"].with_name("rivals").with_join_key_map({"ad": "rival"})]
    service = FeatureService(name="all", features=[*sides, *once])
    feast = FeatureStore(config=store_config(folder))
    feast.apply([*entities.values(), *views.values(), service])
    return feast


def store_config(folder: Path, **options: Any) -> RepoConfig:
    return RepoConfig(
        project="asof",
        provider="local",
        registry=str(folder / "registry.db"),
        offline_store=AsofDuckDBOfflineStoreConfig(**options),
        online_store={"type": "sqlite", "path": str(folder / "online.db")},
        entity_key_serialization_version=3,
    )


def historical(feast: FeatureStore, entities: pd.DataFrame, *, is_filtered: bool = False) -> pd.DataFrame:
    service = feast.get_feature_service("all")
    job = feast.get_historical_features(
        entities, service, full_feature_names=True, filter_by_created_timestamp=is_filtered
    )
    return job.to_df()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asof")
    write(folder, [])
    return folder


@pytest.fixture(scope="module")
def feast(folder: Path) -> FeatureStore:
    return open_feast(folder)


def feature(at: datetime, made: datetime | None = None, **others: Any) -> Row:
    return {"user": "u0", "ad": "a0", "at": at, "made": made or at, "raw": 1.0, **others}


# Of two rows of one time the newest created comes first; it is the older that was known at noon.
CORRECTED = [feature(FIRST), feature(FIRST, FIRST + 13 * HOUR), feature(FIRST, FIRST + HOUR)]
WITHOUT_KEY = [*[feature(FIRST, user="u1", raw=None)] * 4, feature(FIRST, ad=None)]
LIVES = [("u0", "a0", "a1", FIRST + age) for age in (12 * HOUR, DAY + HOUR, DAY + HOUR + INSTANT, 40 * DAY)]


@limits(max_examples=20)
@example(rows=[], questions=LIVES, zone="UTC", is_filtered=False)
@example(rows=CORRECTED, questions=[], zone="UTC", is_filtered=False)
@example(rows=CORRECTED, questions=LIVES, zone=None, is_filtered=False)
@example(rows=CORRECTED, questions=LIVES, zone="UTC", is_filtered=True)
@example(rows=WITHOUT_KEY, questions=[("u0", "a0", None, FIRST)], zone=None, is_filtered=False)
@given(rows=tables, questions=questions, zone=zones, is_filtered=st.booleans())
def test_values_are_those_of_merge_asof(
    feast: FeatureStore,
    folder: Path,
    rows: list[Row],
    questions: list[tuple[Any, ...]],
    zone: str | None,
    is_filtered: bool,
) -> None:
    written, entities = write(folder, rows), asked(questions, zone)
    found = historical(feast, entities, is_filtered=is_filtered)
    assert list(found) == [*entities, *(f"{name}__value" for name in JOINS)]
    pd.testing.assert_frame_equal(found, expected(entities, written, is_filtered=is_filtered), check_dtype=False)


@pytest.fixture(scope="module")
def on_workers(folder: Path) -> Iterator[FeatureStore]:
    """The same views, joined by two Dask workers in processes of their own."""
    local = {"host": "127.0.0.1", "dashboard_address": None}
    with LocalCluster(n_workers=2, threads_per_worker=1, **local) as cluster:  # type: ignore[no-untyped-call]
        config = store_config(folder, dask_scheduler=cluster.scheduler_address)
        yield FeatureStore(config=config)


@pytest.mark.parametrize("is_filtered", [False, True])
def test_dask_workers_find_the_same(
    feast: FeatureStore, on_workers: FeatureStore, folder: Path, is_filtered: bool
) -> None:
    rng = np.random.default_rng(6)
    at = random_hours(rng, 2_000)
    keys = {"user": rng.choice(["u0", "u1"], 2_000), "ad": rng.choice(["a0", "a1"], 2_000)}
    rows = pd.DataFrame({**keys, "at": at, "made": at + pd.to_timedelta(rng.integers(0, 48, 2_000), "h"), "raw": 1.0})
    write(folder, [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")])
    users, ads, rivals = (rng.choice(["0", "1", "9"], 500) for _ in range(3))
    questions = zip(users, ads, rivals, random_hours(rng, 500), strict=True)
    entities = asked([(f"u{user}", f"a{ad}", f"a{rival}", time) for user, ad, rival, time in questions])
    found = historical(on_workers, entities, is_filtered=is_filtered)
    pd.testing.assert_frame_equal(found, historical(feast, entities, is_filtered=is_filtered), check_exact=True)
    assert 0 < found["pair__value"].isna().mean() < 1


def random_hours(rng: np.random.Generator, count: int) -> pd.DatetimeIndex:
    return pd.Timestamp(FIRST) + pd.to_timedelta(rng.integers(0, 60 * 24, count), "h")


@limits(max_examples=12)
@given(rows=tables, start=st.none() | times, end=st.none() | times)
def test_pulled_rows(
    feast: FeatureStore, folder: Path, rows: list[Row], start: datetime | None, end: datetime | None
) -> None:
    """All rows but those that a newer created one replaces, and of each key the one that counts."""
    written = write(folder, rows)
    in_span = written[written["at"].between(start or FIRST, end or FIRST + 100 * DAY)]
    ranked = in_span.sort_values(["at", "made"], na_position="first", kind="stable")
    assert pulled(feast, "pull_all", start, end) == values(ranked.drop_duplicates(["ad", "at"], keep="last"))
    latest = ranked.drop_duplicates("ad", keep="last")
    assert pulled(feast, "pull_latest", start or FIRST, end or FIRST + 100 * DAY) == values(latest)
    assert pulled(feast, "pull_all", start, end, created=None) == values(in_span)


def pulled(feast: FeatureStore, name: str, *span: datetime | None, created: str | None = "made") -> list[Any]:
    source = feast.get_feature_view("shown").batch_source
    pull = getattr(AsofDuckDBOfflineStore, f"{name}_from_table_or_query")
    job = pull(feast.config, source, ["ad"], ["user", "raw"], "at", created, *span)
    return values(job.to_df())


def values(rows: pd.DataFrame) -> list[Any]:
    """Comparable, whatever their order."""
    return sorted(map(repr, rows[["ad", "at", "user", "raw"]].fillna("none").values.tolist()))


def test_only_the_days_of_the_span_are_read(feast: FeatureStore, folder: Path) -> None:
    write(folder, [feature(FIRST + number * DAY) for number in range(20)])
    for number in (0, 3, 6, 19):  # 25 hours before 2 o'clock of day 5 is day 4
        broken = folder / f"daily/date={(FIRST + number * DAY):%F}/{number % 2}.parquet"
        assert broken.exists()
        broken.write_bytes(b"not Parquet")
    question = ("u0", "a0", "a0", FIRST + 5 * DAY + 2 * HOUR)
    job = feast.get_historical_features(asked([question]), ["shown:value"])
    assert job.to_df()["value"].tolist() == [5.0]


@pytest.mark.usefixtures("feast")
def test_folders_called_date_may_mean_another(folder: Path) -> None:
    """With `date_partition: null` they are not looked at."""
    write(folder, [feature(FIRST)])
    (folder / f"daily/date={FIRST:%F}").rename(folder / "daily/date=2020-01-01")
    feast = FeatureStore(config=store_config(folder, date_partition=None))
    question = asked([("u0", "a0", "a0", FIRST)])
    assert feast.get_historical_features(question, ["shown:value"]).to_df()["value"].tolist() == [0.0]


@pytest.mark.parametrize("as_type", ["datetime64[ns]", "datetime64[s]", "str"])
def test_times_without_a_zone_are_utc(tmp_path: Path, as_type: str) -> None:
    """Of whatever unit, as pandas writes them; and as text."""
    times = np.array(["2026-03-02", "2026-03-03"]).astype(as_type)
    pd.DataFrame({"ad": ["a", "a"], "at": times, "value": [1.0, 2.0]}).to_parquet(tmp_path / "rows.parquet")
    feast = FeatureStore(config=store_config(tmp_path))
    ad = Entity(name="ad", value_type=ValueType.STRING)
    schema = [Field(name="ad", dtype=String), Field(name="value", dtype=Float64)]
    source = FileSource(path=f"{tmp_path}/rows.parquet", timestamp_field="at")
    feast.apply([ad, FeatureView(name="plain", entities=[ad], schema=schema, source=source)])
    moments = pd.to_datetime(["2026-03-02", "2026-03-04"], utc=True)
    question = pd.DataFrame({"ad": ["a", "a"], "event_timestamp": moments})
    assert feast.get_historical_features(question, ["plain:value"]).to_df()["value"].tolist() == [1.0, 2.0]


def test_saved_dataset(feast: FeatureStore, folder: Path) -> None:
    write(folder, [feature(FIRST), feature(FIRST + HOUR)])
    question = asked([("u0", "a0", "a0", FIRST + DAY)] * 2)
    job = feast.get_historical_features(question, ["shown:value"])
    storage = SavedDatasetFileStorage(str(folder / "saved.parquet"))
    saved = feast.create_saved_dataset(job, "saved", storage, allow_overwrite=True)
    assert saved.to_df()["value"].tolist() == [1.0, 1.0]


def test_no_file_at_all(feast: FeatureStore, folder: Path) -> None:
    write(folder, [])
    shutil.rmtree(folder / "daily")
    with pytest.raises(FeatureTableError, match=r"no file matches '.*/daily/\*/\*\.parquet': write the features"):
        historical(feast, asked([("u0", "a0", "a0", FIRST)]))
