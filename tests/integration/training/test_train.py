"""Training on a real store: what reaches the registry, what is not done twice, where it can be done."""

# mypy: allow-untyped-calls

from datetime import timedelta
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from distributed import LocalCluster
from lib.contracts import REQUIRED, as_named
from lib.steps import with_step
from lib.training_lake import FIRST, land, make_contract, make_frame, make_rows
from numpy.typing import NDArray

from liftloop.compute import cluster as clusters
from liftloop.compute.cluster import ClusterError
from liftloop.compute.compute import OneProcess, open_compute
from liftloop.contract.contract import Contract
from liftloop.contract.loading import ContractError
from liftloop.contract.sections import Training
from liftloop.model.model import predict_uncalibrated
from liftloop.registry.load import load_model
from liftloop.registry.registry import Registry
from liftloop.settings import ONE_PROCESS, Settings
from liftloop.storage.store import Store
from liftloop.training.boosting import Parameters
from liftloop.training.devices import NoDeviceError, has_device, require_device
from liftloop.training.fit import fit
from liftloop.training.frame import TrainingFrame
from liftloop.training.frame_builder import FrameError, build_frame
from liftloop.training.train import fit_model, make_recipe, train


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
    version, step = with_step(train, store, contract, frame)
    assert Registry(store, contract.source).versions() == [version]
    assert (step.name, step.inputs, step.outputs, step.is_reused) == (
        "train",
        version.frame,
        (*version.blobs, *version.fold_blobs),
        False,
    )
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

    again, second = with_step(train, store, contract, frame)
    assert again == version
    assert second == step.model_copy(update={"is_reused": True})


def test_other_settings_are_trained_anew(store: Store, contract: Contract, frame: TrainingFrame) -> None:
    settings = contract.training.model_copy(update={"seed": 99})
    version, step = with_step(train, store, contract.model_copy(update={"training": settings}), frame)
    assert not step.is_reused
    assert version in Registry(store, contract.source).versions()


def test_a_version_whose_bytes_are_gone_is_trained_anew(store: Store, contract: Contract, frame: TrainingFrame) -> None:
    version = train(store, contract, frame)
    store.delete([version.booster.key])
    again, step = with_step(train, store, contract, frame)
    assert not step.is_reused
    assert again.blobs == version.blobs  # one process, so the same bytes
    load_model(store, again)


class Interrupted(Exception):
    """Stands for a kill: whatever was not put on record before is lost."""


@pytest.mark.slow
def test_a_search_that_was_cut_off_is_taken_up_where_it_was(
    store: Store, contract: Contract, frame: TrainingFrame
) -> None:
    longer = contract.model_copy(update={"training": Training(trials=7, maximum_rounds=15)})
    undisturbed = fit_model(longer, frame)
    told: list[str] = []

    def interrupt(line: str) -> None:
        told.append(line)
        if len(told) == 6:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(store, longer, frame, interrupt)
    resumed: list[str] = []
    version = train(store, longer, frame, resumed.append)
    assert [line.split(":")[0] for line in told] == [f"trial {number} of 7" for number in range(1, 7)]
    assert [line.split(":")[0] for line in resumed] == ["trial 7 of 7"]
    assert version.version == undisturbed.model.version
    again, losses = version.metrics["trials"], [trial.log_loss for trial in undisturbed.trials]
    assert [trial["log_loss"] for trial in again] == losses


EAGER: Parameters = {"max_depth": 6, "eta": 0.3, "lambda": 0, "min_child_weight": 0}  # learns its rows by heart


@pytest.mark.parametrize(("direction", "sign"), [("increasing", 1), ("decreasing", -1)])
def test_a_monotone_column_is_kept(contract: Contract, frame: TrainingFrame, direction: str, sign: int) -> None:
    rows = pd.concat([frame.holdout.head(100)] * 24).assign(hour=np.repeat(np.arange(24), 100))

    def steps(**constraints: Any) -> NDArray[np.float32]:
        training = contract.training.model_copy(update=constraints)
        recipe = make_recipe(contract.model_copy(update={"training": training}), frame)
        part = frame.index.parts["training"]
        booster = fit(OneProcess(), recipe, EAGER, part, part)
        return sign * np.diff(
            predict_uncalibrated(booster, recipe.encoder.encode(rows).to_numpy()).reshape(24, 100), axis=0
        )

    assert (steps() < 0).any()
    kept = steps(monotone={"hour": direction})
    assert (kept >= 0).all()
    assert (kept > 0).any()


def test_only_columns_of_one_group_act_together(contract: Contract, frame: TrainingFrame) -> None:
    groups = (("ad_id", "hour"), ("device", "placement_id"))
    training = contract.training.model_copy(update={"interactions": groups})
    constrained = contract.model_copy(update={"training": training})
    trained = fit_model(constrained, frame)
    encoder, trees = trained.model.spec.encoder, trained.model.booster.trees_to_dataframe()
    assert trees["Feature"].nunique() > 2
    for _, nodes in trees[trees["Feature"] != "Leaf"].groupby("Tree"):
        used = {raw for name in nodes["Feature"] for raw in encoder.sources[name]}
        assert any(used <= set(group) for group in groups) or len(used) == 1
    free, bound = (make_recipe(each, frame).encoder.sources.values() for each in (contract, constrained))
    crosses = [set(columns) for columns in free if len(columns) == 2]
    assert {"ad_id", "device"} in crosses
    assert not any(len(columns) == 2 and not any(set(columns) <= set(group) for group in groups) for columns in bound)


@pytest.mark.parametrize("constraint", [{"monotone": {"hours": "increasing"}}, {"interactions": (("hours", "ad_id"),)}])
def test_a_constraint_on_no_column_is_named(
    contract: Contract, frame: TrainingFrame, constraint: dict[str, Any]
) -> None:
    training = contract.training.model_copy(update=constraint)
    with pytest.raises(ContractError, match=rf"training.{next(iter(constraint))} names \['hours'\]; allowed: .*'hour'"):
        make_recipe(contract.model_copy(update={"training": training}), frame)


def test_dropped_negatives_are_made_up_for(contract: Contract, frame: TrainingFrame) -> None:
    half = contract.model_copy(update={"outcome": contract.outcome.model_copy(update={"negatives_kept": 0.5})})
    predicted = fit_model(half, frame).model.predict(frame.holdout)
    reward = frame.holdout["click"]
    assert predicted.mean() == pytest.approx(reward.sum() / (reward.sum() + 2 * (1 - reward).sum()), rel=0.2)


def rows_at_once() -> list[dict[str, Any]]:
    """The training part is of one moment, so its rows know no features."""
    rows, second = make_rows(rows_per_day=75), FIRST + timedelta(days=2)
    return [
        row | {"event_timestamp": FIRST if row["event_timestamp"] < second else row["event_timestamp"]} for row in rows
    ]


def bare_contract() -> Contract:
    """Without context, so that every number is a feature."""
    return make_contract(f"s{uuid4().hex[:8]}", columns=as_named(REQUIRED), context={}, keys=["ad_id"])


def test_numbers_without_a_value_do_not_end_a_fit_on_workers(object_store: Settings) -> None:
    store, contract = Store(object_store), bare_contract()
    land(store, contract, rows_at_once())
    frame = build_frame(store, contract)
    assert frame.columns_with_values(["training"], ["ad_impressions_1d", "ad_id"]) == ["ad_id"]
    assert "ad_impressions_1d" in frame.columns_with_values(["validation"], ["ad_impressions_1d"])
    assert fit_model(contract, frame).model.spec.encoder.numbers == ()


def test_rows_with_nothing_to_learn_from_are_refused(store: Store) -> None:
    contract = bare_contract()
    land(
        store,
        contract,
        [row | dict.fromkeys(("ad_id", "placement_id"), row["impression_id"]) for row in rows_at_once()],
    )
    with pytest.raises(
        FrameError, match=r"nothing to learn from in the \d+ training rows of .* no text value more than"
    ):
        fit_model(contract, build_frame(store, contract))


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
        pytest.raises(ClusterError, match=r"LIFTLOOP_DASK_SCHEDULER='tcp://127.0.0.1:1': no Dask scheduler answers"),
        open_compute(settings),
    ):
        pass


def test_a_cluster_without_workers_is_refused(object_store: Settings) -> None:
    with LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None) as cluster:
        settings = object_store.model_copy(update={"dask_scheduler": cluster.scheduler_address})
        with (
            pytest.raises(ClusterError, match=r"its workers must have liftloop .*, they have {}"),
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
        open_compute(settings) as compute,
        pytest.raises(NoDeviceError, match="LIFTLOOP_DEVICE='cuda': XGBoost finds no such device"),
    ):
        require_device(compute, settings.device)


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
