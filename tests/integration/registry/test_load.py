"""What is loaded is what was registered, from the store and from an exported folder; nothing is unpickled."""

import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
import xgboost
import yaml
from lib.model_versions import put_version

from liftloop.model.earnings import Earnings
from liftloop.model.encoder import Encoder
from liftloop.model.model import Model, ModelSpec
from liftloop.registry.export import ExportError, export
from liftloop.registry.load import load_model, register
from liftloop.registry.mlflow import _load_pyfunc
from liftloop.registry.registry import Registry
from liftloop.registry.versions import ModelVersion, RegistryError
from liftloop.stats.calibration import PlattCalibration
from liftloop.storage.hashing import fingerprint_of
from liftloop.storage.store import Store
from liftloop.training.frame import FrameIndex

ROWS = pd.DataFrame({"hour": np.arange(24), "device": ["phone", "desk", None] * 8})


@pytest.fixture
def version(store: Store) -> ModelVersion:
    encoder = Encoder(categories={"device": ("desk", "phone")}, numbers=("hour",))
    matrix = xgboost.DMatrix(encoder.encode(ROWS), ROWS["hour"] > 11)
    booster = xgboost.train({"objective": "binary:logistic", "max_depth": 2}, matrix, 3)
    source = f"s{uuid4().hex[:8]}"
    booster.set_attr(made_for=source)
    spec = ModelSpec(
        reward="click",
        earnings=Earnings(objective="clicks", reward="click"),
        feature_service="service",
        encoder=encoder,
        calibration=PlattCalibration(slope=1, intercept=0.1),
        contract_sha256="0",
    )
    frame = FrameIndex(source=source, fingerprint="frame", inputs=(), parts={})
    made = register(
        Registry(store, source),
        Model(booster, spec),
        training_fingerprint="t",
        frame_fingerprint=frame.fingerprint,
        frame=frame.partitions,
        trained_until=datetime(2026, 3, 1, tzinfo=UTC),
        metrics={},
    )
    card = store.put(f"reports/{source}/models/{made.version}.html", b"<p>card")
    made = made.model_copy(update={"card": card})
    Registry(store, made.source).write(made)
    return made


@pytest.mark.parametrize("blob", ["booster", "spec"])
@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_damaged_blob_is_not_loaded(store: Store, version: ModelVersion, blob: str, damage: str) -> None:
    load_model(store, version)
    key = getattr(version, blob).key
    if damage == "missing":
        store.delete([key])
    else:
        store.put(key, store.get(key) + b" ")
    with pytest.raises(RegistryError, match=f"{version.version} cannot be loaded: .*{key}"):
        load_model(store, version)


class Payload:
    """Unpickled, it leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("blob", ["booster", "spec"])
def test_a_pickle_on_record_is_refused_and_not_run(
    store: Store, version: ModelVersion, blob: str, tmp_path: Path
) -> None:
    trace = tmp_path / "unpickled"
    body = pickle.dumps(Payload(trace))
    forged = version.model_copy(update={blob: store.put_blob(body)})
    name = fingerprint_of(*(each.sha256 for each in forged.blobs))[:12]
    with pytest.raises((ValueError, xgboost.core.XGBoostError)):
        load_model(store, forged.model_copy(update={"version": name}))
    assert not trace.exists()
    pickle.loads(body)  # noqa: S301  (our own: the trap works)
    assert trace.exists()


def test_an_exported_version_predicts_the_same(store: Store, version: ModelVersion, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "model"
    files = export(store, version, folder)
    assert {str(file.relative_to(folder)) for file in files} == {
        "MLmodel",
        "requirements.txt",
        "card.html",
        "data/booster.ubj",
        "data/spec.json",
        "data/version.json",
    }
    declared = yaml.safe_load((folder / "MLmodel").read_text())
    flavor = declared["flavors"]["python_function"]
    loaded = import_module(flavor["loader_module"])._load_pyfunc(str(folder / flavor["data"]))
    np.testing.assert_array_equal(loaded.predict(ROWS), load_model(store, version).predict(ROWS))
    assert (declared["metadata"]["source"], declared["model_uuid"]) == (version.source, version.version)
    assert (folder / "card.html").read_bytes() == b"<p>card"


def test_mlflow_itself_loads_it(store: Store, version: ModelVersion, tmp_path: Path) -> None:
    pyfunc = pytest.importorskip("mlflow.pyfunc", reason="MLflow is not installed")
    export(store, version, tmp_path)
    predicted = pyfunc.load_model(str(tmp_path)).predict(ROWS)
    np.testing.assert_array_equal(predicted, load_model(store, version).predict(ROWS))


@pytest.mark.parametrize("name", ["booster.ubj", "spec.json"])
def test_an_exported_file_that_was_changed_is_refused(
    store: Store, version: ModelVersion, tmp_path: Path, name: str
) -> None:
    export(store, version, tmp_path)
    file = tmp_path / "data" / name
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(RegistryError, match=rf"{name} was changed"):
        _load_pyfunc(str(tmp_path / "data"))


def test_nothing_is_overwritten_and_nothing_damaged_exported(store: Store, tmp_path: Path) -> None:
    version = put_version(store, f"s{uuid4().hex[:8]}", "a")
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(ExportError, match="is not an empty folder"):
        export(store, version, tmp_path)
    with pytest.raises(ExportError, match="is not an empty folder"):
        export(store, version, tmp_path / "kept")
    store.delete([version.spec.key])
    with pytest.raises(RegistryError, match="a cannot be loaded"):
        export(store, version, tmp_path / "new")
    assert not (tmp_path / "new").exists()
