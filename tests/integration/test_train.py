"""Training on a real store: what reaches the registry, what is not done twice, where it can be done."""

# mypy: allow-untyped-calls

from uuid import uuid4

import pytest
from distributed import LocalCluster
from training_lake import make_contract, make_frame

from liftloop.contract import Contract
from liftloop.settings import ONE_PROCESS, Settings
from liftloop.store import Store
from liftloop.training import cluster as clusters
from liftloop.training.cluster import TrainingError, has_device
from liftloop.training.compute import open_compute
from liftloop.training.frame import TrainingFrame
from liftloop.training.model import load_model
from liftloop.training.registry import list_versions
from liftloop.training.train import fit_model, train


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


def test_a_cluster_of_the_users_own_is_used_and_left_running(
    object_store: Settings, contract: Contract, frame: TrainingFrame
) -> None:
    with LocalCluster(n_workers=1, host="127.0.0.1", dashboard_address=None) as cluster:
        settings = object_store.model_copy(update={"dask_scheduler": cluster.scheduler_address})
        told: list[str] = []
        trained = fit_model(contract, TrainingFrame(Store(settings), frame.index), progress=told.append)
        assert trained.model.predict(frame.holdout).std() > 0.02
        assert sorted(line.split(":")[0] for line in told) == ["trial 1 of 2", "trial 2 of 2"]
        assert cluster.scheduler_info["workers"]


def test_a_scheduler_that_is_not_there_is_named(object_store: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "CONNECT_SECONDS", 1)
    settings = object_store.model_copy(update={"dask_scheduler": "tcp://127.0.0.1:1"})
    with (
        pytest.raises(TrainingError, match=r"LIFTLOOP_DASK_SCHEDULER='tcp://127.0.0.1:1': no Dask scheduler answers"),
        open_compute(settings),
    ):
        pass


def test_a_cluster_without_workers_is_refused(object_store: Settings) -> None:
    with LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None) as cluster:
        settings = object_store.model_copy(update={"dask_scheduler": cluster.scheduler_address})
        with (
            pytest.raises(TrainingError, match=r"its workers must have liftloop .*, they have {}"),
            open_compute(settings),
        ):
            pass


@pytest.mark.parametrize("scheduler", [ONE_PROCESS, None])
def test_a_device_that_is_not_there_is_told_before_anything_starts(
    object_store: Settings, scheduler: str | None
) -> None:
    if has_device("cuda"):
        pytest.skip("there is a GPU")
    settings = object_store.model_copy(update={"device": "cuda", "dask_scheduler": scheduler})
    with (
        pytest.raises(TrainingError, match="LIFTLOOP_DEVICE='cuda': XGBoost finds no such device"),
        open_compute(settings),
    ):
        pass


@pytest.mark.parametrize("scheduler", [ONE_PROCESS, None])
def test_a_training_on_a_gpu_comes_to_the_same(
    object_store: Settings, contract: Contract, frame: TrainingFrame, scheduler: str | None
) -> None:
    if not has_device("cuda"):
        pytest.skip("XGBoost finds no GPU here")
    models = [
        fit_model(contract, TrainingFrame(Store(object_store.model_copy(update=changes)), frame.index))
        for changes in ({"dask_scheduler": ONE_PROCESS}, {"dask_scheduler": scheduler, "device": "cuda"})
    ]
    assert models[1].log_loss == pytest.approx(models[0].log_loss, rel=0.01)
