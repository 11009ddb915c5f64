"""What a search tries, on which rows, and when it gives a trial up."""

from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lib.memory_store import MemoryStore

from liftloop.compute.compute import OneProcess
from liftloop.contract.sections import Training
from liftloop.model.encoder import Encoder, Lookup
from liftloop.settings import Settings
from liftloop.stats.scoring import sampling_weight
from liftloop.training import search as searching
from liftloop.training.boosting import DownsampleRates, Recipe, Rows, downsample
from liftloop.training.search import BATCH, CAUTIOUS, Journal, Progress, Search, Space
from liftloop.training.trial import Task, Trial, run_trial

TEXT = ("ad_id", "device", "site_id")
ENCODER = Encoder(
    categories=dict.fromkeys(sorted(TEXT), ("x", "y")),
    numbers=("hour", "ad_clicks_1d"),
    lookups={f"rate({name})": Lookup(columns=(name,), codes=(0, 1), values=(0.1, 0.2)) for name in TEXT}
    | {"rate(ad_id, device)": Lookup(columns=("ad_id", "device"), codes=(0, 1), values=(0.1, 0.2))}
    | {f"count({name})": Lookup(columns=(name,), codes=(0, 1), values=(3, 4)) for name in TEXT},
)
SPACE = Space(ENCODER, windows=frozenset({"ad_clicks_1d"}))
RECIPE = Recipe(Settings(), ENCODER, "click", reward_rate=0.3, maximum_rounds=20, seed=7)


def make_rows(seed: int, count: int = 400) -> Rows:
    random = np.random.default_rng(seed)
    values = random.integers(0, 2, (count, len(ENCODER.columns)))
    features = pd.DataFrame(values, columns=ENCODER.columns, dtype=np.float32)
    reward = pd.Series(random.random(count) < 0.1 + 0.4 * features["rate(device)"], dtype=np.float32)
    return Rows(features, reward, pd.Series(1, reward.index, dtype=np.float32))


SAMPLES: dict[str, list[Rows]] = {"training": [make_rows(0), make_rows(1)], "validation": [make_rows(2)]}


def search(journal: Journal | None = None, progress: Progress = lambda _line: None, **changes: Any) -> list[Trial]:
    return Search(OneProcess(), RECIPE, SPACE, SAMPLES, Training(**changes), journal, progress).run()


def apart_from_time(trials: list[Trial]) -> list[Trial]:
    return [trial.model_copy(update={"seconds": 0}) for trial in trials]


def test_the_same_seed_finds_the_same_and_the_first_trial_is_cautious() -> None:
    found = search(trials=6, seed=3)
    assert [trial.number for trial in found] == list(range(1, 7))
    assert apart_from_time(found) == apart_from_time(search(trials=6, seed=3))
    assert apart_from_time(found) != apart_from_time(search(trials=6, seed=4))
    assert found[0].parameters == CAUTIOUS
    assert found[0].encoding["text"] == "native"
    assert apart_from_time(search(trials=BATCH, seed=3)) == apart_from_time(found[:BATCH])


def test_a_spent_budget_ends_the_search_after_a_batch() -> None:
    assert len(search(trials=50, budget_seconds=1e-6)) == BATCH


class Interrupted(Exception):
    """Stands for a kill: whatever was not put on record before is lost."""


@pytest.mark.parametrize("trials_before", [1, BATCH, BATCH + 2, 2 * BATCH])
def test_a_restarted_search_continues_its_budget(monkeypatch: pytest.MonkeyPatch, trials_before: int) -> None:
    """On a clock by which every trial takes a second, so that the third batch does not fit into the budget."""
    monkeypatch.setattr(searching, "perf_counter", count().__next__)
    allowed: dict[str, Any] = {"trials": 50, "budget_seconds": 3 * BATCH - 0.5, "seed": 3}
    told: list[str] = []

    def interrupt(line: str) -> None:
        told.append(line)
        if len(told) == trials_before:
            raise Interrupted

    journal = Journal(MemoryStore(), "trials/")
    with pytest.raises(Interrupted):
        search(journal, interrupt, **allowed)
    resumed: list[str] = []
    found = search(journal, resumed.append, **allowed)
    assert len(resumed) == 2 * BATCH - trials_before
    assert apart_from_time(found) == apart_from_time(search(**allowed))


def test_choices_become_columns() -> None:
    assert SPACE.text == list(TEXT)
    everything = SPACE.first[1] | {"windows": True}
    numbers, rates = ("hour", "ad_clicks_1d"), tuple(f"rate({name})" for name in TEXT)
    counts = tuple(f"count({name})" for name in TEXT)
    assert SPACE.columns(everything) == (*numbers, *rates, "rate(ad_id, device)", *counts)
    few = everything | {"strongest": 1, "crosses": 0, "windows": False, "text": "both"}
    assert SPACE.columns(few) == ("ad_id", "hour", "rate(ad_id)", "count(ad_id)")
    assert all(set(SPACE.columns(choices)) <= set(ENCODER.columns) for choices in SPACE.first)


def task(**changes: Any) -> Task:
    quick = CAUTIOUS | {"eta": 0.2}
    return replace(Task(9, quick, {}, SPACE.columns(SPACE.first[1]), earlier=()), **changes)


def attempt(asked: Task) -> Trial:
    return run_trial(asked, RECIPE, SAMPLES["training"], SAMPLES["validation"], threads=1)


def shifted(trial: Trial, change: float, **changes: Any) -> Trial:
    return trial.model_copy(update={"curve": tuple(np.array(trial.curve) + change)} | changes)


def test_a_trial_behind_the_median_is_given_up() -> None:
    whole = attempt(task())
    better, worse = shifted(whole, -0.01), shifted(whole, 0.01)
    given_up = attempt(task(earlier=(better,) * 3 + (worse,) * 2))
    assert given_up.is_given_up
    assert given_up.curve == whole.curve[:15]  # 15 rounds of 0.2
    assert given_up.log_loss == min(given_up.curve)
    for earlier in [(better,) * 2 + (worse,) * 3, (better,) * 3]:
        assert attempt(task(earlier=earlier)).curve == whole.curve


def test_small_steps_are_measured_by_how_far_they_have_come() -> None:
    fast = attempt(task(parameters=task().parameters | {"eta": 0.3}))
    slow = attempt(task(parameters=task().parameters | {"eta": 0.16}, earlier=(shifted(fast, 3e-3),) * 4))
    assert not slow.is_given_up
    assert min(slow.curve) > min(fast.curve) + 3e-3  # by rounds it would have been


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 5), st.integers(1, 5))
def test_a_sample_stands_for_all_rows(rewarded: list[bool], others: int, rewards: int) -> None:
    reward = np.array(rewarded, dtype=np.float32)
    kept, stands_for = downsample(reward, DownsampleRates(others, rewards))
    assert (np.diff(kept) > 0).all()
    for value, step in ((0, others), (1, rewards)):
        is_kept = reward[kept] == value
        assert is_kept.sum() == np.ceil((reward == value).sum() / step)
        assert 0 <= stands_for[is_kept].sum() - (reward == value).sum() < step


def test_what_the_log_dropped_is_stood_for() -> None:
    np.testing.assert_array_equal(sampling_weight(np.array([1, 0, 0]), 0.1), [1, 10, 10])


def test_a_model_without_a_chosen_column_reads_all() -> None:
    space = Space(Encoder(categories={}, numbers=("ad_clicks_1d",)), windows=frozenset({"ad_clicks_1d"}))
    choices = {"strongest": 0, "text": "rates", "crosses": 0, "counts": False, "windows": False}
    assert space.columns(choices) == ("ad_clicks_1d",)
