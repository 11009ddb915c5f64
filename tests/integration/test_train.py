"""Training on a real store: what reaches the registry, what is not done twice, what happens when a worker is lost."""

import os
import signal
from threading import Timer
from uuid import uuid4

import psutil
import pytest
from training_lake import make_contract, make_frame

from liftloop.compute import TrainingError, Workers, open_compute
from liftloop.contract import Contract
from liftloop.frame import TrainingFrame
from liftloop.registry import list_versions, load_model
from liftloop.settings import ONE_PROCESS, Settings
from liftloop.store import Store
from liftloop.training import CAUTIOUS, FITTED, make_recipe, train


@pytest.fixture(scope="module")
def store(object_store: Settings) -> Store:
    return Store(object_store.model_copy(update={"dask_scheduler": ONE_PROCESS}))


@pytest.fixture(scope="module")
def contract() -> Contract:
    return make_contract(f"s{uuid4().hex[:8]}")


@pytest.fixture(scope="module")
def frame(store: Store, contract: Contract) -> TrainingFrame:
    return make_frame(store, contract)


def test_a_model_is_trained_once_and_put_on_record(store: Store, contract: Contract, frame: TrainingFrame) -> None:
    version, step = train(store, contract, frame)
    assert list_versions(store, contract.source) == [version]
    assert (step.name, step.inputs, step.outputs, step.is_reused) == ("train", version.frame, version.blobs, False)
    assert version.frame_fingerprint == frame.index.fingerprint
    assert set(version.frame) == set(frame.index.partitions)
    metrics = step.metrics
    assert metrics["version"] == version.version
    assert [trial["number"] for trial in metrics["trials"]] == [1, 2]
    assert metrics["parameters"] == min(metrics["trials"], key=lambda trial: trial["log_loss"])["parameters"]
    assert 0 < metrics["validation_log_loss"] < 0.6
    model = load_model(store, version)
    assert model.booster.num_boosted_rounds() == metrics["rounds"]
    assert model.spec.feature_service == f"{contract.source}_click_v1"
    assert (model.predict(frame.holdout) > 0).all()

    again, second = train(store, contract, frame)
    assert again == version
    assert second == step.model_copy(update={"is_reused": True})


def test_other_settings_are_trained_anew(store: Store, contract: Contract, frame: TrainingFrame) -> None:
    settings = contract.training.model_copy(update={"seed": 99})
    version, step = train(store, contract.model_copy(update={"training": settings}), frame)
    assert not step.is_reused
    assert version in list_versions(store, contract.source)


def test_a_version_whose_bytes_are_gone_is_trained_anew(store: Store, contract: Contract, frame: TrainingFrame) -> None:
    version, _ = train(store, contract, frame)
    store.delete([version.booster.key])
    again, step = train(store, contract, frame)
    assert not step.is_reused
    assert again.blobs == version.blobs  # one process, so the same bytes
    load_model(store, again)


def test_a_lost_worker_ends_the_training_with_a_clear_word(
    object_store: Settings, contract: Contract, frame: TrainingFrame
) -> None:
    endless = contract.training.model_copy(update={"maximum_rounds": 100_000})
    recipe = make_recipe(contract.model_copy(update={"training": endless}), frame)

    def train_until_killed() -> None:
        with open_compute(object_store) as compute:
            assert isinstance(compute, Workers)
            parts = [frame.index.parts[name].partitions for name in FITTED]
            rows = [compute.load(recipe.load, partitions) for partitions in parts]
            victim = next(iter(compute.client.run(os.getpid).values()))
            Timer(3, os.kill, (victim, signal.SIGKILL)).start()
            compute.fit(recipe, CAUTIOUS | {"eta": 1e-6}, *rows)  # so slow that it never stops improving

    with pytest.raises(TrainingError, match=r"one may have been lost\. Run the training again"):
        train_until_killed()
    left = [child.cmdline() for child in psutil.Process().children(recursive=True)]
    assert [command for command in left if "--multiprocessing-fork" in command] == []
