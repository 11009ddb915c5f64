"""A simulated world that moves: each effect has its size, clicks obey the truth, and ads come and go."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from liftloop.datasets.simulated import SimulationSettings, simulate
from liftloop.datasets.simulated.catalogue import ADS, CAMPAIGNS, PLACEMENTS
from liftloop.datasets.simulated.decision_truth import DecisionTruth
from liftloop.datasets.simulated.effects import LANDS_WHOLE, STATIC
from liftloop.datasets.simulated.impressions import Traffic
from liftloop.datasets.simulated.motion import POSITIONS, Motion, build_motion
from liftloop.datasets.simulated.publisher import day_files, motion_of
from liftloop.datasets.simulated.raw_log import RawLog, to_bytes
from liftloop.datasets.simulated.today import Today
from liftloop.datasets.simulated.truth import TruthError
from liftloop.datasets.simulated.users import draw_users
from liftloop.datasets.simulated.world import World, build_world

SEED, UNLIKELY = 7, 1e-4
SETTINGS = SimulationSettings(impressions=300_000, days=8, seed=SEED, dirty_share=0, effects=LANDS_WHOLE)


@dataclass(frozen=True)
class Run:
    rows: pd.DataFrame
    files: dict[str, bytes]
    truth: DecisionTruth


def run(settings: SimulationSettings, truth: Path) -> Run:
    files: dict[str, bytes] = {}
    simulate(settings, files.__setitem__, truth)
    rows = pd.concat([pd.read_parquet(io.BytesIO(body)).assign(key=key) for key, body in files.items()])
    return Run(rows.reset_index(drop=True), files, DecisionTruth.load(truth))


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(SETTINGS, tmp_path_factory.mktemp("truth"))


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(SEED)


def motion(world: World, days: int = 60, **effects: float) -> Motion:
    only = STATIC.model_copy(update=effects)
    return build_motion(only, SEED, SETTINGS.start_date, days, world.eligible_ads)


def test_clicks_are_calibrated_to_the_truth_by_decile(moving: Run) -> None:
    rows = moving.rows
    truth = moving.truth.click_probability(rows["imp_id"], rows["creative"])
    frame = pd.DataFrame({"truth": truth, "click": rows["clk"], "variance": truth * (1 - truth)})
    total = frame.groupby(pd.qcut(frame["truth"], 10, labels=False)).sum()
    assert ((total["click"] - total["truth"]).abs() < 4 * total["variance"] ** 0.5).all()


def test_only_what_competes_is_shown_with_its_propensity(moving: Run) -> None:
    sample = moving.rows.sample(200, random_state=1)
    for row in sample.itertuples():
        competing = moving.truth.competing(int(row.imp_id))  # type: ignore[arg-type]
        assert row.creative in competing
        if row.pol == "uniform":
            assert row.prob == pytest.approx(1 / len(competing))
    assert not np.isnan(moving.truth.click_probability(moving.rows["imp_id"], moving.rows["creative"])).any()


def test_the_value_of_an_ad_is_its_bid_times_its_probability(moving: Run) -> None:
    clicked = moving.rows[moving.rows["clk"] == 1].head(50)
    probability = moving.truth.click_probability(clicked["imp_id"], clicked["creative"])
    value = moving.truth.value(clicked["imp_id"], clicked["creative"])
    assert value / probability == pytest.approx(clicked["rev_micros"] / 1e6)
    assert np.isnan(moving.truth.value(clicked["imp_id"], ["no such ad"] * 50)).all()
    with pytest.raises(TruthError, match="impression_id 5 is not of this log"):
        moving.truth.click_probability([5], ["ad-00"])


def test_a_static_world_has_no_truth_of_decisions(tmp_path: Path) -> None:
    simulate(SETTINGS.model_copy(update={"effects": STATIC, "impressions": 1_000}), lambda *_: None, tmp_path)
    with pytest.raises(TruthError, match="a world that moves"):
        DecisionTruth.load(tmp_path)


def test_the_same_settings_land_the_same_bytes_and_any_day_can_be_made_alone(tmp_path: Path) -> None:
    small = SETTINGS.model_copy(update={"impressions": 20_000, "days": 4})
    first, second = (run(small, tmp_path / name).files for name in ("first", "second"))
    assert first == second
    world, users = build_world(SEED), draw_users(SEED, small.impressions)
    alone = day_files(small, Traffic(world, users), RawLog(world.ads, users), 2, motion_of(small, world))
    assert {file.key: to_bytes(file.table) for file in alone} == {
        key: body for key, body in first.items() if key.startswith("2026-01-07/")
    }


# The effects, each by itself


def test_weekends_have_less_traffic(moving: Run) -> None:
    by_day = moving.rows.groupby(moving.rows["key"].str[:10]).size()
    weekend = [pd.Timestamp(day).weekday() >= 5 for day in by_day.index]
    assert by_day[weekend].mean() / by_day[np.logical_not(weekend)].mean() == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize(("effect", "spread"), [("day_shock", 0.1), ("weekday_clicks", 0.3)])
def test_levels_differ_between_days_by_the_stated_spread(world: World, effect: str, spread: float) -> None:
    level = motion(world, days=700, **{effect: spread}).level
    assert np.log(level).std() == pytest.approx(spread, rel=0.35)
    by_week = np.log(level).reshape(-1, 7)
    assert (np.ptp(by_week, axis=0) < 1e-9).all() == (effect == "weekday_clicks")


def test_ads_drift_with_the_stated_spread_and_memory(world: World) -> None:
    logs = np.log(motion(world, days=400, ad_drift=0.4, ad_drift_days=5).slot_factor)
    assert logs.std() == pytest.approx(0.4, rel=0.05)
    correlation = np.corrcoef(logs[:-5].ravel(), logs[5:].ravel())[0, 1]
    assert correlation == pytest.approx(np.exp(-1), abs=0.05)


def test_ads_end_and_others_begin(world: World) -> None:
    found = motion(world, days=300, ad_lifetime_days=20)
    lived = found.is_alive.sum() / (found.number[-1].sum() + len(ADS))  # days of an ad
    assert lived == pytest.approx(20, rel=0.25)
    assert all(found.is_alive[:, slots].sum(axis=1).min() >= 2 for slots in world.eligible_ads)
    names = [set(found.ad_ids(day)[found.is_alive[day]]) for day in range(300)]
    assert names[0] == set(ADS)
    assert "ad-07-1" in set().union(*names)
    ended = names[0] - names[40]
    assert len(ended) > 40
    assert not ended & set().union(*names[60:])  # no ad comes back


def test_a_shorter_log_has_the_same_first_days(world: World) -> None:
    short, long = (motion(world, days, ad_lifetime_days=20, ad_drift=0.4, day_shock=0.1) for days in (10, 30))
    for name in ("level", "slot_factor", "is_alive", "number"):
        np.testing.assert_array_equal(getattr(short, name), getattr(long, name)[:10])


def test_a_campaign_rests_while_it_has_spent_its_share_of_the_budget(world: World) -> None:
    effects, campaign = STATIC.model_copy(update={"budget_days": 1.5}), world.ads.campaign
    today = Today.begin(effects, motion(world), world, day=0, users=1, impressions=100_000)
    rng, one_user = np.random.default_rng(0), np.zeros(1, dtype=np.int64)
    assert today.move(rng, one_user, end=0.25).is_eligible.all()
    mean_spend = 100_000 * (world.ads.click_rate * world.ads.bid_micros).mean() / len(CAMPAIGNS)
    today.spend(np.array([3, 3]), np.full(2, int(0.4 * mean_spend)))
    for share, rests in ((0.5, True), (0.6, False)):  # 0.8 of 1.5 mean spends is reached after 0.53 of the day
        eligible = today.move(rng, one_user, end=share).is_eligible
        assert (eligible == (campaign != 3)).all() if rests else eligible.all()
    today.spend(np.arange(len(CAMPAIGNS)), np.full(len(CAMPAIGNS), int(2 * mean_spend)))
    assert today.move(rng, one_user, end=1.0).is_eligible.all()  # with no budget left anywhere, all compete


def test_budgets_hold_back_the_campaigns_that_earn_most(moving: Run) -> None:
    spend = moving.rows.groupby([moving.rows["key"].str[:10], "camp"])["rev_micros"].sum().unstack(fill_value=0)
    assert len(spend) == 8
    assert (spend.max(axis=1) < 3 * spend.mean(axis=1)).all()


def test_users_tire_by_the_impressions_that_they_have_seen_that_day(world: World) -> None:
    effects = STATIC.model_copy(update={"fatigue": 0.2})
    today = Today.begin(effects, motion(world), world, day=0, users=3, impressions=100)
    rng = np.random.default_rng(0)
    first = today.move(rng, np.array([0, 1, 0, 0]), end=0.5)
    assert first.row_factor == pytest.approx(np.exp(-0.2 * np.log2([1, 1, 2, 3])))
    second = today.move(rng, np.array([2, 0]), end=1.0)
    assert second.row_factor == pytest.approx(np.exp(-0.2 * np.log2([1, 4])))


def test_later_positions_are_clicked_less(moving: Run) -> None:
    by_position = moving.rows.groupby("pos")["clk"].agg(["sum", "size"])
    assert sorted(by_position.index) == [1, 2, 3]
    rates = by_position["sum"] / by_position["size"]
    assert rates[3] / rates[1] == pytest.approx(np.exp(-0.6), rel=0.25)
    assert stats.chisquare(by_position["size"]).pvalue > UNLIKELY
    assert len(PLACEMENTS) * POSITIONS == 27


def test_some_users_are_not_logged(moving: Run) -> None:
    assert moving.rows["uid"].isna().mean() == pytest.approx(0.3, abs=0.01)
