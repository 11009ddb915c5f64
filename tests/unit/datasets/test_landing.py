"""How a simulated log lands: late files and outcomes apart change where rows are, and when, and nothing else."""

import io
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from liftloop.contract.contract import Contract
from liftloop.datasets.simulated import SimulationSettings, simulate
from liftloop.datasets.simulated.decision_truth import DecisionTruth
from liftloop.datasets.simulated.effects import LANDS_WHOLE, STATIC, Effects
from liftloop.datasets.simulated.impressions import DAY_MS
from liftloop.datasets.simulated.landing import LATEST_DAYS, OUTCOMES, document_of
from liftloop.datasets.simulated.publisher import FILES_PER_DAY
from liftloop.project import find_project

SETTINGS = SimulationSettings(impressions=60_000, days=12, seed=7, dirty_share=0)
FIRST_DAY = (SETTINGS.start_date - date(1970, 1, 1)).days
MOVES = LANDS_WHOLE


def run(effects: Effects, folder: Path, dirty_share: float = 0) -> dict[str, bytes]:
    """The files in the order of landing."""
    files: dict[str, bytes] = {}
    settings = SETTINGS.model_copy(update={"effects": effects, "dirty_share": dirty_share})
    simulate(settings, files.__setitem__, folder)
    return files


def rows(files: Mapping[str, bytes], *, of_outcomes: bool = False) -> pd.DataFrame:
    wanted = [body for key, body in files.items() if key.startswith("outcomes/") == of_outcomes]
    return pd.concat(map(pd.read_parquet, map(io.BytesIO, wanted)), ignore_index=True)


def day_of(key: str) -> int:
    return (date.fromisoformat(key.removeprefix("outcomes/")[:10]) - SETTINGS.start_date).days


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return run(MOVES, tmp_path_factory.mktemp("inside"))


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return run(MOVES.model_copy(update={"outcome_files": True}), tmp_path_factory.mktemp("apart"))


def test_outcomes_apart_are_those_inside_that_are_known_by_the_end(
    inside: dict[str, bytes], apart: dict[str, bytes]
) -> None:
    whole, shown, outcomes = rows(inside), rows(apart), rows(apart, of_outcomes=True)
    pd.testing.assert_frame_equal(shown, whole.drop(columns=list(OUTCOMES)))
    known = (whole["clk"] == 1) & (whole["out_ts"] < (FIRST_DAY + SETTINGS.days) * DAY_MS)
    expected = whole.loc[known, ["imp_id", *OUTCOMES]].sort_values("imp_id", ignore_index=True)
    pd.testing.assert_frame_equal(outcomes.sort_values("imp_id", ignore_index=True), expected)
    assert len(expected) > 100


def test_an_outcome_lands_on_the_day_on_which_it_becomes_known(apart: dict[str, bytes]) -> None:
    by_day = {day_of(key): pd.read_parquet(io.BytesIO(body)) for key, body in apart.items() if "outcomes/" in key}
    assert [*by_day] == [*range(SETTINGS.days)]
    assert all((found["out_ts"] // DAY_MS == FIRST_DAY + day).all() for day, found in by_day.items())
    later = [(found["imp_id"] // 1_000_000_000 - FIRST_DAY < day).mean() for day, found in by_day.items() if day]
    assert 0 < max(later) < 0.2  # a conversion of the day before


def test_a_tenth_of_the_files_is_one_or_two_days_late(tmp_path: Path) -> None:
    effects = STATIC.model_copy(update={"late_files": Effects().late_files})
    settings = SETTINGS.model_copy(update={"impressions": 4_000, "days": 250, "effects": effects})
    days: list[int] = []
    simulate(settings, lambda key, _: days.append(day_of(key)), tmp_path)
    waits = np.maximum.accumulate(days) - days
    assert (waits > 0).mean() == pytest.approx(0.1, abs=0.03)
    assert {*waits} == {0, 1, LATEST_DAYS}
    on_record = np.bincount(days, minlength=settings.days)
    assert (on_record[:-LATEST_DAYS] == FILES_PER_DAY).all()  # later files of the last two days have not landed


def test_late_files_have_the_rows_that_they_would_have_in_time(inside: dict[str, bytes], tmp_path: Path) -> None:
    late = run(MOVES.model_copy(update={"late_files": 0.3}), tmp_path)
    assert [*late] != [*inside][: len(late)]
    assert late == {key: inside[key] for key in late}
    assert {key for key in inside if day_of(key) < SETTINGS.days - LATEST_DAYS} <= late.keys() < inside.keys()


def test_the_same_seed_lands_the_same_bytes_in_the_same_order(tmp_path: Path) -> None:
    first, second = (run(Effects(), tmp_path / name, dirty_share=0.01) for name in ("first", "second"))
    assert list(first.items()) == list(second.items())
    assert rows(first)["imp_id"].isna().any()
    assert rows(first, of_outcomes=True)["imp_id"].notna().all()


def test_the_truth_of_what_has_not_landed_is_known(inside: dict[str, bytes], tmp_path: Path) -> None:
    run(MOVES.model_copy(update={"late_files": 0.9}), tmp_path)
    whole = rows(inside)
    truth = DecisionTruth.load(tmp_path).click_probability(whole["imp_id"], whole["creative"])
    assert truth.min() > 0


def test_the_contract_names_where_outcomes_are() -> None:
    document = yaml.safe_load((find_project().contracts_folder / "simulated.yaml").read_text())
    whole, apart = (Contract.model_validate(document_of(document, each)) for each in (MOVES, Effects()))
    assert apart.outcome_columns == whole.outcome_columns
    assert "position" in whole.context
    assert not whole.gate.exchangeable_days
    assert not whole.outcome_files
    assert set(apart.columns) == set(whole.columns) - {"click", "conversion", "revenue", "outcome_timestamp"}
    assert apart.outcome_files_of("outcomes/2026-01-05.parquet") == "outcomes"
    assert apart.outcome_files_of("2026-01-05/part-000.parquet") is None
