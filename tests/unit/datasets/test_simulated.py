"""The simulated publisher: its logs obey its truth, its bugs are counted, and the same seed lands the same bytes."""

import io
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from scipy import stats

from liftloop.datasets.simulated import SimulationSettings, SimulationSummary, simulate
from liftloop.datasets.simulated.catalogue import (
    ADS,
    ENGAGEMENT_MULTIPLIER,
    HOURLY_TRAFFIC_SHARE,
    PLACEMENTS,
    POLICIES,
    POLICY_SHARE,
    SEGMENTS,
    production_click_rates,
)
from liftloop.datasets.simulated.effects import STATIC
from liftloop.datasets.simulated.impressions import Traffic
from liftloop.datasets.simulated.publisher import FILE_ROWS, day_files
from liftloop.datasets.simulated.raw_log import RawLog, to_bytes
from liftloop.datasets.simulated.truth import Truth, TruthError
from liftloop.datasets.simulated.users import draw_users
from liftloop.datasets.simulated.world import World, build_world

SEED = 7
UNLIKELY = 1e-4  # the seeds are fixed: a correct simulator passes for good


@dataclass(frozen=True)
class Run:
    rows: pd.DataFrame
    summary: SimulationSummary
    truth: Path


def _run(settings: SimulationSettings, truth: Path) -> tuple[dict[str, bytes], SimulationSummary]:
    files: dict[str, bytes] = {}
    return files, simulate(settings, files.__setitem__, truth)


def _read(files: dict[str, bytes]) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(io.BytesIO(content)) for content in files.values()], ignore_index=True)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Run:
    truth = tmp_path_factory.mktemp("truth")
    files, summary = _run(
        SimulationSettings(impressions=400_000, days=4, seed=SEED, dirty_share=0, effects=STATIC), truth
    )
    return Run(_read(files), summary, truth)


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(SEED)


def _logged_click_probability(run: Run) -> np.ndarray:
    rows = run.rows
    served = pd.to_datetime(rows["ts"], unit="ms")
    return Truth.load(run.truth).click_probability(rows["uid"], rows["slot"], rows["dev"], served, rows["creative"])


# Determinism and streaming


def test_same_settings_land_the_same_bytes(tmp_path: Path) -> None:
    settings = SimulationSettings(impressions=20_000, days=2, seed=SEED, effects=STATIC)
    first, second = (_run(settings, tmp_path / name) for name in ("first", "second"))
    other_seed = _run(settings.model_copy(update={"seed": SEED + 1}), tmp_path / "other")
    assert first == second
    assert all(first[0][key] != other_seed[0][key] for key in first[0])
    for file in ("contexts", "click_probability", "users"):
        names = [tmp_path / folder / f"{file}.parquet" for folder in ("first", "second")]
        assert names[0].read_bytes() == names[1].read_bytes()


def test_any_day_can_be_made_alone(tmp_path: Path, world: World) -> None:
    settings = SimulationSettings(impressions=20_000, days=3, seed=SEED, effects=STATIC)
    users = draw_users(SEED, settings.impressions)
    alone = day_files(settings, Traffic(world, users), RawLog(world.ads, users), day=2)
    files, _ = _run(settings, tmp_path)
    assert {file.key: to_bytes(file.table) for file in alone} == {
        key: content for key, content in files.items() if key.startswith("2026-01-07/")
    }


def test_runs_of_one_seed_share_their_world(tmp_path: Path) -> None:
    for name, impressions in (("small", 1_000), ("large", 50_000)):
        _run(SimulationSettings(impressions=impressions, days=1, seed=SEED, effects=STATIC), tmp_path / name)
    small, large = ((tmp_path / name / "click_probability.parquet").read_bytes() for name in ("small", "large"))
    assert small == large


def test_memory_holds_one_file_however_busy_the_day(world: World) -> None:
    users = draw_users(SEED, 100_000)
    traffic, log = Traffic(world, users), RawLog(world.ads, users)
    peak_bytes = []
    for files in (4, 6):
        tracemalloc.start()
        for _ in day_files(
            SimulationSettings(impressions=files * FILE_ROWS, days=1, effects=STATIC), traffic, log, day=0
        ):
            pass
        peak_bytes.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peak_bytes[1] < 1.1 * peak_bytes[0]


# The logging policies


def test_propensities_sum_to_one_and_reach_every_eligible_ad(world: World) -> None:
    assert world.propensity.sum(axis=-1) == pytest.approx(1)
    assert world.propensity.min() > 0.01


def _decisions(run: Run, world: World) -> tuple[np.ndarray, ...]:
    """Where in `world.propensity` each row's decision is."""
    policy, slot, segment, ad = (
        pd.Index(names).get_indexer(pd.Index(run.rows[column]))
        for names, column in ((POLICIES, "pol"), (PLACEMENTS, "slot"), (SEGMENTS, "seg"), (ADS, "creative"))
    )
    is_chosen = world.eligible_ads[slot] == ad[:, None]
    assert is_chosen.any(axis=1).all()
    return policy, slot, segment, is_chosen.argmax(axis=1)


def test_logged_propensity_is_that_of_the_serving_policy(clean: Run, world: World) -> None:
    assert (clean.rows["prob"] == world.propensity[_decisions(clean, world)]).all()


def test_served_ads_follow_the_propensities(clean: Run, world: World) -> None:
    observed = np.zeros(world.propensity.shape)
    np.add.at(observed, _decisions(clean, world), 1)
    expected = observed.sum(axis=-1, keepdims=True) * world.propensity
    freedom = observed.size - observed[..., 0].size
    assert UNLIKELY < stats.chi2.sf(((observed - expected) ** 2 / expected).sum(), freedom) < 1 - UNLIKELY


def test_policies_share_the_traffic_as_stated(clean: Run) -> None:
    served = clean.rows["pol"].value_counts().reindex(POLICIES)
    assert stats.chisquare(served, POLICY_SHARE * served.sum()).pvalue > UNLIKELY


def test_traffic_follows_the_local_hour(clean: Run) -> None:
    rows = clean.rows
    offset_hours = rows["site"].map({"news": 0, "weather": 1, "recipes": 9})
    assert (rows["lh"] == (rows["ts"] // 3_600_000 + offset_hours) % 24).all()
    served = rows["lh"].value_counts().reindex(range(24))
    assert stats.chisquare(served, HOURLY_TRAFFIC_SHARE * len(rows)).pvalue > UNLIKELY


# Clicks


def test_clicks_are_calibrated_to_the_truth_by_decile(clean: Run) -> None:
    frame = pd.DataFrame({"truth": _logged_click_probability(clean), "click": clean.rows["clk"]})
    frame["variance"] = frame["truth"] * (1 - frame["truth"])
    total = frame.groupby(pd.qcut(frame["truth"], 10, labels=False)).sum()
    assert ((total["click"] - total["truth"]).abs() < 4 * total["variance"] ** 0.5).all()
    assert total["truth"].iloc[-1] > 20 * total["truth"].iloc[0]


def test_each_ad_has_its_production_click_rate(world: World) -> None:
    share = np.broadcast_to(world.context_share[..., None], world.click_probability.shape)
    ad = np.broadcast_to(world.eligible_ads[:, None, None, None, None, :], share.shape).ravel()
    clicks = np.bincount(ad, (share * world.click_probability).ravel(), len(ADS))
    assert clicks / np.bincount(ad, share.ravel(), len(ADS)) == pytest.approx(production_click_rates())


def test_uniform_traffic_shows_the_production_click_rates(clean: Run) -> None:
    by_ad = clean.rows[clean.rows["pol"] == "uniform"].groupby("creative")["clk"].agg(["sum", "size"]).reindex(ADS)
    expected = by_ad["size"] * production_click_rates()
    # Heavy users make an ad's clicks a little more uneven than Poisson.
    assert 40 < ((by_ad["sum"] - expected) ** 2 / expected).sum() < 160


def test_production_click_rates_are_those_of_the_data_set() -> None:
    rates = production_click_rates()
    observed = [len(rates), rates.min(), rates.mean(), rates.max()]
    assert observed == pytest.approx([80, 0.00087, 0.00317, 0.00501], abs=5e-6)


@pytest.mark.parametrize("seed", range(5))
def test_every_seed_has_a_signal_worth_learning(seed: int) -> None:
    world = build_world(seed)
    propensity = np.einsum("m,mpsr->psr", POLICY_SHARE, world.propensity)[:, :, None, None, None, :]
    share, p = world.context_share[..., None] * propensity, world.click_probability
    click_rate = (share * p).sum()
    normalized_entropy = (share * stats.bernoulli.entropy(p)).sum() / stats.bernoulli.entropy(click_rate)
    assert 0.003 < click_rate < 0.006
    assert 0.85 < normalized_entropy < 0.92


def test_engagement_is_hidden_and_strong(clean: Run) -> None:
    users = pd.read_parquet(clean.truth / "users.parquet").set_index("user_id")
    clicks = clean.rows.groupby(users["engagement"].reindex(clean.rows["uid"]).to_numpy())["clk"].mean()
    assert "engagement" not in clean.rows.columns
    assert clicks.iloc[-1] / clicks.iloc[0] == pytest.approx(
        ENGAGEMENT_MULTIPLIER[-1] / ENGAGEMENT_MULTIPLIER[0], rel=0.4
    )


# Outcomes and money


def test_outcomes_come_after_the_impression_and_within_their_windows(clean: Run) -> None:
    rows = clean.rows
    delay_seconds = (rows["out_ts"] - rows["ts"]) / 1000
    clicked, converted = rows["clk"] == 1, rows["conv"] == 1
    assert (delay_seconds > 0).all()
    assert (delay_seconds[~clicked] == 1800).all()
    assert (delay_seconds[clicked & ~converted] <= 1800).all()
    assert (delay_seconds[converted] <= 2 * 86_400 + 1800).all()
    assert delay_seconds[converted].median() > 20 * delay_seconds[clicked & ~converted].median()
    assert (rows.loc[converted, "clk"] == 1).all()
    assert converted.sum() > 50


def test_advertisers_pay_one_bid_per_click(clean: Run) -> None:
    rows = clean.rows
    assert (rows.loc[rows["clk"] == 0, "rev_micros"] == 0).all()
    paid = rows[rows["clk"] == 1].groupby("creative")["rev_micros"]
    assert (paid.nunique() == 1).all()
    assert paid.min().min() > 0
    assert (rows["cost_micros"] > 0).all()
    assert rows["rev_micros"].sum() > rows["cost_micros"].sum()


def test_rows_lie_in_the_file_of_their_date_in_the_order_of_time(tmp_path: Path) -> None:
    files, summary = _run(
        SimulationSettings(impressions=10_001, days=2, seed=SEED, dirty_share=0, effects=STATIC), tmp_path
    )
    assert sorted(files) == [f"2026-01-0{day}/part-00{part}.parquet" for day in (5, 6) for part in range(4)]
    for key, content in files.items():
        dates = pd.to_datetime(_read({key: content})["ts"], unit="ms").dt.date.astype(str)
        assert set(dates) == {key.split("/")[0]}
    rows = _read(files)
    assert rows["ts"].is_monotonic_increasing
    assert rows["imp_id"].is_unique
    assert (summary.rows, summary.files, summary.size_bytes) == (10_001, 8, sum(map(len, files.values())))


# Dirt

SPOILED: dict[str, Callable[[pd.DataFrame], "pd.Series[bool]"]] = {
    "missing_impression_id": lambda rows: rows["imp_id"].isna() & ~_is_phantom_click(rows),
    "missing_creative": lambda rows: rows["creative"].isna(),
    "missing_timestamp": lambda rows: rows["ts"].isna(),
    "timestamp_in_seconds": lambda rows: rows["ts"] < 1e12,
    "outcome_before_impression": lambda rows: rows["out_ts"] < rows["ts"],
    "zero_propensity": lambda rows: rows["prob"] == 0,
    "negative_cost": lambda rows: rows["cost_micros"] < 0,
    "click_without_impression": lambda rows: _is_phantom_click(rows),
    "sent_twice": lambda rows: rows["imp_id"].notna() & rows.duplicated(),
}


def _is_phantom_click(rows: pd.DataFrame) -> "pd.Series[bool]":
    return rows["imp_id"].isna() & (rows["clk"] == 1)


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> Run:
    truth = tmp_path_factory.mktemp("truth")
    files, summary = _run(SimulationSettings(impressions=200_000, days=2, seed=SEED, effects=STATIC), truth)
    return Run(_read(files), summary, truth)


def test_the_stated_share_is_spoiled(dirty: Run) -> None:
    assert sum(dirty.summary.rows_spoiled.values()) == 400
    assert dirty.summary.rows == len(dirty.rows) == 200_000 + dirty.summary.rows_spoiled["sent_twice"]


@pytest.mark.parametrize("kind", SPOILED)
def test_every_kind_of_bug_is_in_the_log_as_often_as_reported(dirty: Run, kind: str) -> None:
    assert SPOILED[kind](dirty.rows).sum() == dirty.summary.rows_spoiled[kind] > 10


# Truth and settings


def test_truth_answers_for_logged_and_counterfactual_ads(clean: Run) -> None:
    truth, rows = Truth.load(clean.truth), clean.rows.head(200)
    users = pd.read_parquet(clean.truth / "users.parquet").set_index("user_id")
    contexts = pd.read_parquet(clean.truth / "contexts.parquet")
    known = pd.read_parquet(clean.truth / "click_probability.parquet")
    asked = rows.assign(
        engagement=users.loc[rows["uid"], "engagement"].to_numpy(),
        ad_id=[truth.eligible_ads(slot)[3] for slot in rows["slot"]],
    )
    parts = ["placement_id", "segment", "engagement", "device", "local_hour"]
    expected = asked.merge(
        contexts, left_on=["slot", "seg", "engagement", "dev", "lh"], right_on=parts, validate="many_to_one"
    ).merge(known, on=["context_id", "ad_id"])
    served = pd.to_datetime(asked["ts"], unit="ms", utc=True).dt.tz_convert("Asia/Tokyo")
    answer = truth.click_probability(asked["uid"], asked["slot"], asked["dev"], served, asked["ad_id"])
    assert len(expected) == 200
    assert (answer == expected["click_probability"].to_numpy()).all()


def test_truth_is_nan_for_an_ad_the_placement_does_not_take(clean: Run) -> None:
    truth = Truth.load(clean.truth)
    eligible = truth.eligible_ads("news-top")
    refused = next(ad for ad in ADS if ad not in eligible)
    answer = truth.click_probability(
        ["u0000001"] * 2, ["news-top"] * 2, ["phone"] * 2, ["2026-01-05T10:00:00"] * 2, [eligible[0], refused]
    )
    assert len(eligible) == 20
    assert np.isnan(answer).tolist() == [False, True]


def test_truth_refuses_what_it_does_not_know(clean: Run, tmp_path: Path) -> None:
    truth = Truth.load(clean.truth)
    with pytest.raises(TruthError, match="user_id 'nobody' is not of this simulated world"):
        truth.click_probability(["nobody"], ["news-top"], ["phone"], ["2026-01-05"], ["ad-00"])
    with pytest.raises(TruthError, match="placement_id 'moon'"):
        truth.eligible_ads("moon")
    with pytest.raises(TruthError, match="liftloop simulate"):
        Truth.load(tmp_path)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"impressions": 10, "days": 7}, "impressions=10 is too few for days=7; take at least 28"),
        ({"impressions": 0, "days": 1}, "greater than 0"),
        ({"impressions": 100, "days": 1, "dirty_share": 1}, "less than 1"),
        ({"impressions": 100, "days": 1, "speed": 9}, "Extra inputs"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, int], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        SimulationSettings.model_validate(values)
