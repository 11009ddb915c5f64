"""Partitions of any size with something to learn in them, and the recipe to fit them."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from liftloop.model.encoder import Encoder
from liftloop.settings import Settings
from liftloop.storage.store import ObjectRef, Store
from liftloop.training.boosting import Recipe
from liftloop.training.frame import FramePart

CATEGORIES, NUMBERS = ["ad", "place"], ["age", "hour"]
COLUMNS = CATEGORIES + NUMBERS
VALUES = 6  # so few that every one gets a bin of its own, and the workers' sketches cannot differ


def make_recipe(settings: Settings, **changes: Any) -> Recipe:
    encoder = Encoder(categories=dict.fromkeys(CATEGORIES, tuple(map(str, range(VALUES)))), numbers=tuple(NUMBERS))
    return Recipe(**{"reward_rate": 0.2, "maximum_rounds": 25, "seed": 7} | changes, **_fixed(settings, encoder))


def _fixed(settings: Settings, encoder: Encoder) -> dict[str, Any]:
    return {"settings": settings, "encoder": encoder, "reward": "click"}


def make_rows(seed: int, count: int) -> pd.DataFrame:
    """Two categories and two numbers, a tenth of them missing, and clicks that depend on them."""
    random = np.random.default_rng([seed, count])
    values = random.integers(0, VALUES, (count, len(COLUMNS)))
    score = values[:, 0] * (values[:, 2] > 2) - 3 + values[:, 1] % 2
    rows = pd.DataFrame(values, columns=COLUMNS).astype(dict.fromkeys(CATEGORIES, str))
    rows = rows.mask(random.random(rows.shape) < 0.1)
    return rows.assign(click=random.random(count) < 1 / (1 + np.exp(-score)))


def put_part(store: Store, prefix: str, counts: Sequence[int], seed: int) -> FramePart:
    """A part of a frame with so many rows in each partition."""
    partitions = tuple(
        put_rows(store, f"{prefix}-{n:03}.parquet", make_rows(seed + n, c)) for n, c in enumerate(counts)
    )
    start = datetime(2026, 3, 1, tzinfo=UTC)
    return FramePart(start=start, end=start, rows=sum(counts), rewards=0, partitions=partitions)


def put_rows(store: Store, key: str, rows: pd.DataFrame) -> ObjectRef:
    body = io.BytesIO()
    rows.to_parquet(body)
    return store.put(f"features/parts/{key}", body.getvalue())
