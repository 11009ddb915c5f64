"""A source of its own for each file, which names its `contract`: from the frame to the version."""

import pytest

from liftloop.contract.contract import Contract
from liftloop.registry.versions import ModelVersion
from liftloop.settings import ONE_PROCESS, Settings
from liftloop.storage.store import Store
from liftloop.training.frame import TrainingFrame
from liftloop.training.frame_builder import build_frame
from liftloop.training.train import train


@pytest.fixture(scope="module")
def store(object_store: Settings, tmp_path_factory: pytest.TempPathFactory) -> Store:
    home = tmp_path_factory.mktemp("gate")
    return Store(object_store.model_copy(update={"dask_scheduler": ONE_PROCESS, "home": home}))


@pytest.fixture(scope="module")
def frame(store: Store, contract: Contract) -> TrainingFrame:
    return build_frame(store, contract)


@pytest.fixture(scope="module")
def version(store: Store, contract: Contract, frame: TrainingFrame) -> ModelVersion:
    return train(store, contract, frame)
