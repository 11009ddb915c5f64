"""The ranks of ads by what they earned, in SQL and in plain Python."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lib.gate_lake import make_contract

from liftloop.contract.contract import Contract
from liftloop.contract.sections import Objective
from liftloop.evaluation.earned import earned
from liftloop.gate.baselines import earnings_ranks
from liftloop.stats.winsorize import winsorized
from liftloop.storage.parquet import put_parquet_blob
from liftloop.storage.store import Store
from liftloop.training.frame import FrameIndex, FramePart, TrainingFrame

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ADS = pd.DataFrame({"placement_id": ["p0"] * 6 + ["p1"] * 4 + ["p2"] * 2, "ad_id": [*"abcdenabcnab"]})  # n is new


def log(rows: int, seed: int) -> pd.DataFrame:
    """Ads that differ in how often they are shown and in what they earn, with refunds and single large orders."""
    rng = np.random.default_rng(seed)
    ad = rng.choice(5, rows, p=[0.5, 0.3, 0.15, 0.04, 0.01])
    place = rng.integers(0, 2, rows)
    ad[place == 1] %= 3
    click = rng.random(rows) < np.array([0.1, 0.12, 0.08, 0.3, 0.2])[ad]
    revenue = (
        click
        * rng.lognormal(0, 1.5, rows)
        * np.array([1, 0.8, 1.5, 1, 3])[ad]
        * rng.choice([1, -0.2], rows, p=[0.98, 0.02])
    )
    frame = pd.DataFrame({"placement_id": [f"p{each}" for each in place], "ad_id": np.array([*"abcde"])[ad]})
    outcomes = {"click": click.astype(int), "conversion": (click & (rng.random(rows) < 0.4)).astype(int)}
    return frame.assign(**outcomes, revenue=revenue, cost=rng.choice([0.01, 0.02, np.nan], rows))


def frame_of(store: Store, parts: list[pd.DataFrame]) -> TrainingFrame:
    partitions = [put_parquet_blob(store, part) for part in parts]
    names: list[Any] = ["training", "validation"]
    found = {
        name: FramePart(start=NOW, end=NOW, rows=1, rewards=1, partitions=(ref,))
        for name, ref in zip(names, partitions, strict=True)
    }
    return TrainingFrame(store, FrameIndex(source="s", fingerprint="f", inputs=(), parts=found))


def plain_order(contract: Contract, rows: pd.DataFrame) -> list[int]:
    """The rows of `ADS`, the one that earned least first."""
    amounts = winsorized(earned(contract, rows), contract.gate.winsorized_share)
    weights = np.where(rows["click"] > 0, 1, 1 / contract.outcome.negatives_kept)
    keys = list(zip(rows["placement_id"], rows["ad_id"], strict=True))
    groups = {key: np.array([each == key for each in keys]) for key in sorted({*keys})}
    priors = {}
    for place in ("p0", "p1"):
        is_in = (rows["placement_id"] == place).to_numpy()
        priors[place] = np.average(amounts[is_in], weights=weights[is_in])
    counts = {key: weights[is_in].sum() for key, is_in in groups.items()}
    means = {key: np.average(amounts[is_in], weights=weights[is_in]) for key, is_in in groups.items()}
    within = sum((weights[is_in] * (amounts[is_in] - means[key]) ** 2).sum() for key, is_in in groups.items())
    within /= sum(counts.values()) - len(groups)
    apart = sum(counts[key] * (means[key] - priors[key[0]]) ** 2 for key in groups) - within * len(groups)
    strength = within * sum(counts.values()) / apart if apart > 0 else np.inf
    worth = {}
    for number, (place, ad) in enumerate(zip(ADS["placement_id"], ADS["ad_id"], strict=True)):
        count, prior = counts.get((place, ad), 0), priors.get(place, 0.0)
        share = count / (count + strength) if np.isfinite(strength) else 0.0
        worth[number] = (prior + share * (means.get((place, ad), prior) - prior), count)
    return sorted(worth, key=worth.__getitem__)


@pytest.mark.parametrize("objective", ["clicks", "conversions", "revenue", "margin"])
@pytest.mark.parametrize("kept", [1.0, 0.25])
def test_the_ranks_of_ads_are_those_of_a_plain_computation(store: Store, objective: Objective, kept: float) -> None:
    contract = make_contract(
        "s", objective=objective, outcome={"horizon": "1h", "negatives_kept": kept}, gate={"winsorized_share": 0.01}
    )
    parts = [log(6_000, seed=1), log(2_000, seed=2)]
    ranks = earnings_ranks(contract, frame_of(store, parts), ADS)
    in_place = [number for number in plain_order(contract, pd.concat(parts, ignore_index=True)) if number < 10]
    assert [number for number in np.argsort(ranks).tolist() if number < 10] == in_place
    assert sorted(ranks) == list(range(len(ADS)))


@pytest.mark.parametrize(
    "counts",
    [{"a": (1000, 100), "b": (1200, 144), "c": (3, 2)}, {"a": (1000, 100), "b": (1200, 120)}],
    ids=["no luck", "the most shown of equal ones"],
)
def test_a_rare_ad_is_not_best_by_luck(store: Store, counts: dict[str, tuple[int, int]]) -> None:
    shown = [("p0", ad, int(each < clicks)) for ad, (rows, clicks) in counts.items() for each in range(rows)]
    rows = pd.DataFrame(shown, columns=["placement_id", "ad_id", "click"])
    ranks = earnings_ranks(make_contract("s"), frame_of(store, [rows, rows.head(0)]), ADS)
    assert ADS["ad_id"][np.argmax(np.where(ADS["placement_id"] == "p0", ranks, -1))] == "b"
