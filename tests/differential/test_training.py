"""Training in Dask workers against training in one process, and one process against itself."""

# mypy: allow-untyped-calls

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from distributed import wait
from hypothesis import given, settings
from hypothesis import strategies as st
from training_lake import make_contract, make_frame

from liftloop.contract import Contract
from liftloop.settings import ONE_PROCESS, Settings
from liftloop.stack.addresses import variables
from liftloop.store import Store
from liftloop.training.compute import Compute, OneProcess, Workers, open_compute
from liftloop.training.encoder import Encoder
from liftloop.training.fitting import Recipe, Rows
from liftloop.training.frame import TrainingFrame
from liftloop.training.train import Trained, fit_model

TESTS = Path(__file__).parents[1]
COLUMNS = [f"column_{number}" for number in range(4)]
VALUES = 6  # so few that every one gets a bin of its own, and the workers' sketches cannot differ

few = settings(max_examples=12, deadline=None, derandomize=True)
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
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compute]:
    with open_compute(Settings(home=tmp_path_factory.mktemp("dask"))) as compute:
        yield compute


def make_rows(seed: int, count: int) -> Rows:
    """Codes of two categories and two numbers, a tenth of them missing, and rewards that depend on them."""
    random = np.random.default_rng([seed, count])
    values = random.integers(0, VALUES, (count, len(COLUMNS))).astype(np.float32)
    score = values[:, 0] * (values[:, 2] > 2) - 3 + values[:, 1] % 2
    values[random.random(values.shape) < 0.1] = np.nan
    reward = pd.Series(random.random(count) < 1 / (1 + np.exp(-score)), dtype=np.float32)
    return Rows(pd.DataFrame(values, columns=COLUMNS), reward, pd.Series(1, reward.index, dtype=np.float32))


def as_it_is(rows: Rows) -> Rows:
    return rows


def test_partitions_are_spread_evenly(workers: Compute) -> None:
    assert isinstance(workers, Workers)
    rows = workers.load(as_it_is, [make_rows(number, 40) for number in range(8)])
    wait(rows)
    holders = Counter(address for addresses in workers.client.who_has(rows).values() for address in addresses)
    assert list(holders.values()) == [4, 4]


def recipe(rate: float) -> Recipe:
    known = tuple(map(str, range(VALUES)))
    encoder = Encoder(categories=dict.fromkeys(COLUMNS[:2], known), numbers=tuple(COLUMNS[2:]))
    return Recipe(Settings(), encoder, "click", reward_rate=rate, maximum_rounds=25, seed=7)


@few
@given(partitions, partitions, parameters, st.integers(0, 99))
def test_workers_grow_the_trees_of_one_process(
    workers: Compute, training: list[int], validation: list[int], chosen: dict[str, float], seed: int
) -> None:
    learned = [make_rows(seed, count) for count in training]
    judged = [make_rows(seed + 100, count) for count in validation]
    shared = recipe(0.2)
    here = OneProcess().fit(shared, chosen, learned, judged)
    there = workers.fit(shared, chosen, workers.load(as_it_is, learned), workers.load(as_it_is, judged))
    assert there.best_iteration == here.best_iteration
    assert there.best_score == pytest.approx(here.best_score, rel=1e-5)
    rows = pd.concat([each.features for each in judged]).to_numpy()
    expected, found = (model.inplace_predict(rows, validate_features=False) for model in (here, there))
    np.testing.assert_allclose(found, expected, atol=1e-5)


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
    assert predicted[is_likely].mean() > 2 * predicted[~is_likely].mean()
    assert in_one_process.model.spec.encoder.columns[:3] == ["ad_id", "device", "placement_id"]
    assert "user_id" not in in_one_process.model.spec.encoder.columns


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
from liftloop.store import open_store
from liftloop.training.train import fit_model
from training_lake import make_contract

source, frame_fingerprint = sys.argv[1:]
frame = open_frame(open_store(), source, frame_fingerprint)
print(fit_model(make_contract(source), frame).model.sha256)
"""


def test_another_process_gives_the_same_bytes(
    frame: TrainingFrame, contract: Contract, in_one_process: Trained
) -> None:
    settings = frame.store.settings.model_copy(update={"dask_scheduler": ONE_PROCESS})
    environment = os.environ | variables(settings) | {"PYTHONPATH": str(TESTS), "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", ELSEWHERE, contract.source, frame.index.fingerprint]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert answer.stdout.strip() == in_one_process.model.sha256, answer.stderr
