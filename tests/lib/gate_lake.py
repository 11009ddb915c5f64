"""A publisher whose truth is known, for the tests of gate and evaluation."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from lib.contracts import as_named, minimal_contract
from lib.feature_lake import write_lake
from liftloop.contract.contract import Contract
from liftloop.features.materialize import update_online_store
from liftloop.features.tiles import update_tiles
from liftloop.features.windows import update_feature_tables
from liftloop.storage.store import Store

FIRST = datetime(2026, 3, 1, tzinfo=UTC)
ROWS_PER_DAY = 1_500
SEGMENTS = 3
ADS = {"p0": [0, 1, 2, 3], "p1": [2, 3, 4, 5]}  # which compete where


def make_contract(source: str, **changes: Any) -> Contract:
    """Of six days three train, one validates, one is held out, and the newest is not matured."""
    columns = ["impression_id", "event_timestamp", "placement_id", "ad_id", "advertiser_id", "user_id", "click"]
    columns += ["conversion", "revenue", "cost", "propensity", "policy", "outcome_timestamp"]
    context = {"segment": {"type": "string"}, "affinity": {"type": "float"}}
    context |= {"category": {"type": "string", "about": "ad"}}
    ours = {
        "source": source,
        "columns": as_named(columns),
        "context": {name: {"from": name} | more for name, more in context.items()},
        "keys": ["user_id", "ad_id", "advertiser_id"],
        "objective": "clicks",
        "training": {"trials": 2, "maximum_rounds": 60},
        "gate": {
            "resamples": 300,
            "minimum_effective_sample_size": 200,
            "minimum_rewards": 40,
            "groups": ["segment"],
            "exchangeable_days": True,
        },
    }
    return minimal_contract(**ours | changes)


def click_probability(segment: ArrayLike, ad: ArrayLike) -> NDArray[np.float64]:
    """Every segment likes every third ad; how much, varies from impression to impression with `affinity`."""
    likes = np.asarray(ad) % SEGMENTS == np.asarray(segment)
    return np.where(likes, 0.3, 0.05)


def make_rows(first_day: int, days: int, *, click_scale: float = 1.0, seed: int = 7) -> list[dict[str, Any]]:
    """Impressions of some days: half the users see ads drawn evenly, the others mostly the placement's first."""
    random = np.random.default_rng([seed, first_day])
    count = days * ROWS_PER_DAY
    seconds = np.sort(random.uniform(first_day, first_day + days, count)) * 86_400
    users = random.integers(0, 300, count)
    segments, is_uniform = users % SEGMENTS, users % 2 == 0
    placements = random.integers(0, 2, count)
    probabilities = np.where(is_uniform[:, None], 0.25, [0.55, 0.15, 0.15, 0.15])
    positions = (random.random(count)[:, None] > probabilities.cumsum(axis=1)[:, :3]).sum(axis=1)
    ads = np.array(list(ADS.values()))[placements, positions]
    affinity = random.random(count)
    clicks = random.random(count) < click_scale * (0.5 + affinity) * click_probability(segments, ads)
    frame = pd.DataFrame(
        {
            "impression_id": [f"i{first_day}-{number}" for number in range(count)],
            "event_timestamp": [FIRST + timedelta(seconds=float(second)) for second in seconds],
            "placement_id": [f"p{placement}" for placement in placements],
            "ad_id": [f"a{ad}" for ad in ads],
            "advertiser_id": [f"v{ad // 2}" for ad in ads],
            "user_id": [f"u{user}" for user in users],
            "propensity": probabilities[np.arange(count), positions],
            "policy": np.where(is_uniform, "uniform", "first"),
            "click": clicks.astype(int),
            "conversion": (clicks & (random.random(count) < 0.2)).astype(int),
            "revenue": clicks * 0.5,
            "cost": 0.01,
            "segment": [f"s{segment}" for segment in segments],
            "affinity": affinity,
            "category": [f"c{ad % SEGMENTS}" for ad in ads],
        }
    )
    frame["outcome_timestamp"] = frame["event_timestamp"] + timedelta(minutes=5)
    rows: list[dict[str, Any]] = frame.to_dict("records")  # type: ignore[assignment]
    return rows


def land(store: Store, contract: Contract, rows: list[dict[str, Any]], name: str = "part") -> None:
    """Into the lake and on to the features, offline and online."""
    write_lake(store, contract, rows, name)
    update_tiles(store, contract)
    update_feature_tables(store, contract)
    update_online_store(store, contract)
