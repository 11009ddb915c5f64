"""Training in Dask workers against training in one process, and one process against itself."""

# mypy: allow-untyped-calls

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
import xgboost
from distributed import wait
from hypothesis import given, settings
from hypothesis import strategies as st
from lib.fit_parts import make_recipe, make_rows, put_part
from lib.projects import REPOSITORY
from lib.training_lake import make_contract, make_frame

from liftloop.compute.compute import Compute, OneProcess, Workers, open_compute
from liftloop.contract.contract import Contract
from liftloop.settings import ONE_PROCESS, Settings
from liftloop.stats.shrinkage import prior_strength
from liftloop.storage.store import Store
from liftloop.training.boosting import STOP_AFTER_ROUNDS, Recipe, Rows, boost, quantile_matrix
from liftloop.training.fit import fit
from liftloop.training.frame import FOLDS, TrainingFrame, folds_of
from liftloop.training.train import Trained, fit_model
from liftloop.training.train import make_recipe as recipe_of

TESTS = REPOSITORY / "tests"
few = settings(max_examples=8, deadline=None, derandomize=True)
partitions = st.lists(st.integers(40, 300), min_size=1, max_size=5)
parameters = st.fixed_dictionaries(
    {
        "max_depth": st.integers(1, 5),
        "eta": st.sampled_from([0.1, 0.3]),
        "min_child_weight": st.sampled_from([0.5, 5.0]),
        "colsample_bytree": st.sampled_from([0.6, 1.0]),
        "max_delta_step": st.sampled_from([0, 1]),
    }
)


@pytest.fixture(scope="module")
def workers(object_store: Settings) -> Iterator[Compute]:
    with open_compute(object_store) as compute:
        yield compute


def test_items_are_spread_evenly(workers: Compute) -> None:
    assert isinstance(workers, Workers)
    loaded = workers.load(abs, range(8))
    wait(loaded)
    holders = Counter(address for addresses in workers.client.who_has(loaded).values() for address in addresses)
    assert list(holders.values()) == [4, 4]


@few
@given(partitions, partitions, parameters, st.integers(0, 99))
def test_workers_grow_the_trees_of_one_process(
    object_store: Settings,
    workers: Compute,
    training: list[int],
    validation: list[int],
    chosen: dict[str, float],
    seed: int,
) -> None:
    store, recipe = Store(object_store), make_recipe(object_store)
    parts = put_part(store, "training", training, seed), put_part(store, "validation", validation, seed + 100)
    here = fit(OneProcess(), recipe, chosen, *parts)
    there = fit(workers, recipe, chosen, *parts)
    assert there.best_iteration == here.best_iteration
    assert there.best_score == pytest.approx(here.best_score, rel=1e-5)
    rows = pd.concat([recipe.load(ref).features for ref in parts[1].partitions]).to_numpy()
    expected, found = (model.inplace_predict(rows, validate_features=False) for model in (here, there))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@few
@given(partitions, parameters, st.integers(0, 99), st.integers(0, 24))
def test_a_fit_cut_off_after_any_round_comes_to_the_same_bytes(
    object_store: Settings, training: list[int], chosen: dict[str, float], seed: int, cut: int
) -> None:
    recipe, checkpoints = make_recipe(object_store), []
    dtrain = quantile_matrix(recipe, [encoded(recipe, seed, count) for count in training], 2)
    dvalid = quantile_matrix(recipe, [encoded(recipe, seed + 100, 300)], 2, dtrain)
    whole = boost(
        recipe, chosen, dtrain, dvalid, after_round=lambda it, _: checkpoints.append(bytes(it.save_raw("ubj")))
    )
    resume_from = checkpoints[min(cut, len(checkpoints) - 1)]
    assert boost(recipe, chosen, dtrain, dvalid, resume_from=resume_from).save_raw("ubj") == whole.save_raw("ubj")


def encoded(recipe: Recipe, seed: int, count: int) -> Rows:
    rows = make_rows(seed, count)
    return Rows(recipe.encoder.encode(rows), rows["click"].astype(float), pd.Series(1.0, index=rows.index))


@few
@given(partitions, partitions, parameters, st.integers(0, 99))
def test_out_of_core_comes_to_the_same_bytes(
    object_store: Settings, training: list[int], validation: list[int], chosen: dict[str, float], seed: int
) -> None:
    store, recipe = Store(object_store), make_recipe(object_store)
    parts = put_part(store, "training", training, seed), put_part(store, "validation", validation, seed + 100)
    in_memory, in_files = (fit(OneProcess(memory_bytes=limit), recipe, chosen, *parts) for limit in (2**40, 0))
    assert in_files.save_raw("ubj") == in_memory.save_raw("ubj")


def test_an_early_stop_is_that_of_xgboost(object_store: Settings) -> None:
    recipe = make_recipe(object_store, maximum_rounds=200)
    chosen = {"max_depth": 5, "eta": 0.5}
    dtrain = quantile_matrix(recipe, [encoded(recipe, 1, 500)], 2)
    dvalid = quantile_matrix(recipe, [encoded(recipe, 2, 300)], 2, dtrain)
    ours = boost(recipe, chosen, dtrain, dvalid)
    options = {"evals": [(dvalid, "validation")], "early_stopping_rounds": STOP_AFTER_ROUNDS, "verbose_eval": False}
    theirs = xgboost.train(recipe.train_options(chosen), dtrain, 200, **options)
    assert (ours.best_iteration, ours.num_boosted_rounds()) == (theirs.best_iteration, theirs.num_boosted_rounds())
    assert ours.num_boosted_rounds() < 200
    assert ours.get_dump() == theirs.get_dump()


@pytest.fixture(scope="module")
def contract() -> Contract:
    return make_contract(f"s{uuid4().hex[:8]}")


@pytest.fixture(scope="module")
def frame(object_store: Settings, contract: Contract) -> TrainingFrame:
    return make_frame(Store(object_store), contract)


@pytest.fixture(scope="module")
def in_one_process(frame: TrainingFrame, contract: Contract) -> Trained:
    return fit_model(contract, with_scheduler(frame, ONE_PROCESS))


def with_scheduler(frame: TrainingFrame, scheduler: str | None) -> TrainingFrame:
    settings = frame.store.settings.model_copy(update={"dask_scheduler": scheduler})
    return TrainingFrame(Store(settings), frame.index)


def test_a_training_on_workers_comes_to_the_same(
    frame: TrainingFrame, contract: Contract, in_one_process: Trained
) -> None:
    on_workers = fit_model(contract, with_scheduler(frame, None))
    assert [trial.parameters for trial in on_workers.trials] == [trial.parameters for trial in in_one_process.trials]
    assert [trial.log_loss for trial in on_workers.trials] == [trial.log_loss for trial in in_one_process.trials]
    assert on_workers.log_loss == pytest.approx(in_one_process.log_loss, rel=0.01)
    expected, found = (trained.model.predict(frame.holdout) for trained in (in_one_process, on_workers))
    assert np.corrcoef(expected, found)[0, 1] > 0.95


def test_it_has_learned_something(frame: TrainingFrame, in_one_process: Trained) -> None:
    predicted = in_one_process.model.predict(frame.holdout)
    is_likely = (frame.holdout["ad_id"] == "a7") & (frame.holdout["device"] == "phone")
    assert predicted[is_likely].mean() > 1.5 * predicted[~is_likely].mean()
    assert {"ad_id", "device"} <= set(in_one_process.model.spec.encoder.raw_columns)
    assert "user_id" not in in_one_process.model.spec.encoder.categories


def test_rates_are_those_of_the_other_folds(frame: TrainingFrame, contract: Contract) -> None:
    """Partition by partition against the whole training part in memory."""
    recipe, rows = recipe_of(contract, frame), frame.training
    loaded = [recipe.load(ref) for ref in frame.index.parts["training"].partitions]
    found = pd.concat([each.features for each in loaded], ignore_index=True)
    assert found.columns.tolist() == recipe.encoder.columns
    fold, rate = folds_of(rows), rows["click"].mean()
    for column in ("ad_id", "device"):
        known = [rows[fold != own].groupby(column)["click"].agg(["sum", "size"]) for own in range(FOLDS)]
        whole = rows.groupby(column)["click"].agg(["sum", "size"])
        strength = prior_strength(whole["size"], whole["sum"], rate)
        others = pd.concat([known[own].loc[value] for own, value in zip(fold, rows[column], strict=True)], axis=1).T
        expected = (others["sum"] + strength * rate) / (others["size"] + strength)
        np.testing.assert_allclose(found[f"rate({column})"], expected, rtol=1e-5)
        validation = recipe.load(frame.index.parts["validation"].partitions[0]).features[f"rate({column})"]
        of_all = (whole["sum"] + strength * rate) / (whole["size"] + strength)
        assert validation.to_numpy() == pytest.approx(of_all[frame.validation[column][: len(validation)]], rel=1e-5)


def test_one_process_gives_the_same_bytes_again(
    frame: TrainingFrame, contract: Contract, in_one_process: Trained
) -> None:
    again = fit_model(contract, with_scheduler(frame, ONE_PROCESS))
    assert again.model.sha256 == in_one_process.model.sha256
    other_seed = contract.model_copy(update={"training": contract.training.model_copy(update={"seed": 8})})
    assert fit_model(other_seed, with_scheduler(frame, ONE_PROCESS)).model.sha256 != in_one_process.model.sha256


ELSEWHERE = """
import sys
from liftloop.training.frame import open_frame
from liftloop.storage.store import open_store
from liftloop.training.train import fit_model
from lib.training_lake import make_contract

source, frame_fingerprint = sys.argv[1:]
frame = open_frame(open_store(), source, frame_fingerprint)
print(fit_model(make_contract(source), frame).model.sha256)
"""


def test_another_process_gives_the_same_bytes(
    frame: TrainingFrame, contract: Contract, in_one_process: Trained
) -> None:
    settings = frame.store.settings.model_copy(update={"dask_scheduler": ONE_PROCESS})
    environment = os.environ | settings.as_environment() | {"PYTHONPATH": str(TESTS), "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", ELSEWHERE, contract.source, frame.index.fingerprint]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert answer.stdout.strip() == in_one_process.model.sha256, answer.stderr
