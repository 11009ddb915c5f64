"""Features through tiles, DuckDB and Feast against the plainest loop over all impressions."""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lib.feature_lake import KEYS, impression, make_contract, write_lake

from liftloop.contract.contract import Contract
from liftloop.features.definitions import feature_columns
from liftloop.features.landing_delay import LandingDelay
from liftloop.features.lookup import historical_features, offline_features, online_features
from liftloop.features.materialize import update_online_store
from liftloop.features.tiles import update_tiles
from liftloop.features.windows import update_feature_tables
from liftloop.lake.lake import Lake
from liftloop.settings import Settings
from liftloop.storage.store import Store

Row = dict[str, Any]
Question = tuple[str | None, str | None, datetime]  # user, ad, now

few = settings(max_examples=6, deadline=None)

HOUR = timedelta(hours=1)
FIRST = datetime(2026, 3, 1, tzinfo=UTC)
WINDOWS = {"1h": HOUR, "1d": timedelta(days=1), "7d": timedelta(days=7)}
TIME_TO_LIVE = timedelta(days=7, hours=1)
HORIZON = timedelta(days=2)

# Few days, hours and moments, so that rows tie, meet the boundaries of hours, days and windows, and leave long gaps.
days = st.sampled_from([0, 1, 2, 7, 8, 14, 17]).map(lambda number: timedelta(days=number))
hours = st.sampled_from([0, 1, 2, 23]).map(lambda number: number * HOUR)
moments = st.sampled_from([timedelta(), timedelta(microseconds=1), HOUR / 2, HOUR - timedelta(microseconds=1)])
times = st.builds(lambda *parts: FIRST + sum(parts, timedelta()), days, hours, moments)
delays = st.sampled_from([timedelta(), HOUR / 2, HOUR, 23 * HOUR, HORIZON, HORIZON + timedelta(microseconds=1)])
landing_delays = st.sampled_from([timedelta(), HOUR, 13 * HOUR, 48 * HOUR])
users, ads = st.sampled_from(["u0", "", None]), st.sampled_from(["a0", "a1"])


@st.composite
def impressions(draw: st.DrawFn) -> Row:
    served, is_click = draw(times), draw(st.booleans())
    return impression(
        served,
        served + draw(delays),
        user_id=draw(users),
        ad_id=draw(ads),
        click=int(is_click),
        conversion=draw(st.sampled_from([0, 1, None])) if is_click else 0,
        revenue=draw(st.sampled_from([None, 0.1, 0.7])),
    )


logs = st.lists(impressions(), min_size=1, max_size=40)
asked_users, asked_ads = st.sampled_from(["u0", "", "stranger", None]), st.sampled_from(["a0", "a1", "other"])
questions = st.lists(st.tuples(asked_users, asked_ads, times), min_size=1, max_size=80)
zones = st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns"])


def full_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def happenings(log: list[Row]) -> Iterator[tuple[datetime, Row]]:
    """When each impression was seen, and when its outcome became known, with what it then adds."""
    for row in log:
        yield row["event_timestamp"], {"impressions": 1}
        outcome = {"clicks": row["click"], "conversions": row["conversion"] or 0, "revenue": row["revenue"] or 0.0}
        if row["outcome_timestamp"] - row["event_timestamp"] <= HORIZON and any(outcome.values()):
            yield row["outcome_timestamp"], outcome


def naive_features(entity: str, log: list[Row], newest: datetime, now: datetime, delay: timedelta) -> Row | None:
    """The features of one key's impressions as of the delay before `now`; None where the latest change is too old."""
    last_boundary = newest.replace(hour=23, minute=0, second=0, microsecond=0)  # of the newest day
    clock = min(full_hour(now - delay), last_boundary)
    known = list(happenings(log))
    ends = {full_hour(moment) + HOUR for moment, _ in known}
    changes = [end + after for end in ends for after in (timedelta(), *WINDOWS.values()) if end + after <= clock]
    if not changes or now - delay - max(changes) > TIME_TO_LIVE:
        return None
    features: Row = {}
    for window, length in WINDOWS.items():
        inside = [what for moment, what in known if clock - length <= moment < clock]
        for measure in ("impressions", "clicks", "conversions", "revenue"):
            features[f"{entity}_{measure}_{window}"] = math.fsum(what.get(measure, 0) for what in inside)
        clicks, shown = (features[f"{entity}_{measure}_{window}"] for measure in ("clicks", "impressions"))
        features[f"{entity}_smoothed_ctr_{window}"] = (clicks + 1) / (shown + 100)
    for event in ("impressions", "clicks"):
        recent = [m for m, what in known if what.get(event) and clock - WINDOWS["7d"] <= m < clock]
        since = (now - max(recent)).total_seconds() if recent else math.nan
        features[f"{entity}_seconds_since_{event.removesuffix('s')}"] = since
    return features


def naive(log: list[Row], rows: Sequence[Question], delay: timedelta) -> pd.DataFrame:
    newest = max(row["event_timestamp"] for row in log)
    found = []
    for *values, now in rows:
        features: Row = {}
        for key, value in zip(KEYS, values, strict=True):
            own = [row for row in log if value is not None and row[key] == value]
            features |= naive_features(key.removesuffix("_id"), own, newest, now, delay) or {}
        found.append(features)
    return pd.DataFrame(found, dtype=float)


def asked(rows: Sequence[Question], zone: str = "UTC") -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=[*KEYS, "event_timestamp"], index=[f"row {n % 7}" for n in range(len(rows))])
    return frame.assign(event_timestamp=pd.to_datetime(frame["event_timestamp"], utc=True).dt.tz_convert(zone))


def new_contract() -> Contract:
    return make_contract(f"log_{uuid4().hex[:12]}", horizon="2d")


def build(store: Store, contract: Contract) -> None:
    update_tiles(store, contract)
    update_feature_tables(store, contract)


@pytest.fixture(scope="module")
def store(object_store: Settings, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(object_store.model_copy(update={"home": tmp_path_factory.mktemp("feast")}))


# One impression at midnight: on that day its windows change at 1 and at 2 o'clock. They live for 7 days and an hour.
EXPIRY = FIRST + timedelta(days=7, hours=3)
LIVES = [("u0", "a0", EXPIRY), ("u0", "a0", EXPIRY + timedelta(microseconds=1))]


@few
@example(log=[impression(FIRST)], rows=LIVES, zone="UTC", delay=timedelta())
@example(log=[impression(FIRST)], rows=LIVES, zone="UTC", delay=HOUR)
@given(log=logs, rows=questions, zone=zones, delay=landing_delays)
def test_features_offline_and_online(
    store: Store, log: list[Row], rows: list[Question], zone: str, delay: timedelta
) -> None:
    contract = LandingDelay(hours=delay // HOUR).pinned(new_contract())
    write_lake(store, contract, log)
    build(store, contract)
    update_online_store(store, contract)
    rows = rows + [(row["user_id"], row["ad_id"], row["event_timestamp"]) for row in log]
    frame = asked(rows, zone)
    found = historical_features(store, contract, frame)
    pd.testing.assert_frame_equal(found[frame.columns], frame)
    expected = naive(log, rows, delay).reindex(columns=feature_columns(contract)).set_axis(frame.index)
    pd.testing.assert_frame_equal(found[feature_columns(contract)], expected, rtol=1e-9, atol=1e-6)
    _assert_online_is_offline(store, contract, log)


def _assert_online_is_offline(store: Store, contract: Contract, log: list[Row]) -> None:
    as_of = Lake(store, contract).newest_event()
    assert as_of == max(row["event_timestamp"] for row in log)
    everyone: list[Question] = [
        (user, ad, as_of) for user in ("u0", "", "stranger", None) for ad in ("a0", "a1", "other")
    ]
    offline = offline_features(store, contract, asked(everyone))
    pd.testing.assert_frame_equal(online_features(store, contract, asked(everyone)), offline)
