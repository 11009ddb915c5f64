"""A lake with something to learn in it, and the training frame of it, for the tests of training and registry."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from lib.contracts import as_named, minimal_contract
from lib.feature_lake import impression, write_lake
from liftloop.contract.contract import Contract
from liftloop.features.feast_repo import apply_features
from liftloop.features.tiles import update_tiles
from liftloop.features.windows import update_feature_tables
from liftloop.storage.store import Store
from liftloop.training.frame import TrainingFrame
from liftloop.training.frame_builder import build_frame

FIRST = datetime(2026, 3, 1, tzinfo=UTC)


def make_contract(source: str, **changes: Any) -> Contract:
    """Two of five days train, one validates, one is held out, and the newest is not matured."""
    columns = ["impression_id", "event_timestamp", "placement_id", "ad_id", "user_id", "click"]
    ours = {
        "source": source,
        "columns": as_named(columns),
        "context": {"device": {"from": "device", "type": "string"}, "hour": {"from": "hour", "type": "integer"}},
        "keys": ["user_id", "ad_id"],
        "training": {"trials": 2, "maximum_rounds": 30},
    }
    return minimal_contract(**ours | changes)


def make_rows(days: int = 5, rows_per_day: int = 400, seed: int = 7) -> list[dict[str, Any]]:
    """Impressions whose clicks depend on ad and device."""
    random = np.random.default_rng(seed)
    count = days * rows_per_day
    seconds = np.sort(random.integers(0, days * 24 * 3600, count))
    ads, phones = random.integers(0, 8, count), random.integers(0, 2, count)
    clicks = random.random(count) < 0.05 + 0.05 * ads * phones
    return [
        impression(
            FIRST + timedelta(seconds=int(second)),
            impression_id=f"i{number}",
            user_id=f"u{number % 50}",
            ad_id=f"a{ad}",
            placement_id=f"p{number % 3}",
            click=int(click),
            device="phone" if phone else "desk",
            hour=int(second) // 3600 % 24,
        )
        for number, (second, ad, phone, click) in enumerate(zip(seconds, ads, phones, clicks, strict=True))
    ]


def land(store: Store, contract: Contract, rows: list[dict[str, Any]]) -> None:
    """Lake, tiles, feature tables, and Feast told of them."""
    write_lake(store, contract, rows)
    update_tiles(store, contract)
    update_feature_tables(store, contract)
    apply_features(store, [contract])


def make_frame(store: Store, contract: Contract) -> TrainingFrame:
    """The frame of a lake of its own."""
    land(store, contract, make_rows())
    return build_frame(store, contract)
