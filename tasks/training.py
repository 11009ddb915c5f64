"""Builds the training frame and trains a model on it."""

from prefect.runtime import flow_run

from liftloop.contract.loading import load_contract
from liftloop.registry.versions import ModelVersion
from liftloop.storage.keys import manifest_key
from liftloop.storage.store import open_store
from liftloop.training import frame_builder
from liftloop.training.frame import open_frame
from liftloop.training.train import train
from tasks.step import step


@step
def build_frame(source: str) -> str:
    """Build the frame of matured impressions with their features; returns its fingerprint."""
    return frame_builder.build_frame(open_store(), load_contract(source)).index.fingerprint


@step  # a lost Dask worker costs another attempt, on a fresh cluster
def train_model(source: str, frame_fingerprint: str) -> ModelVersion:
    """Search, fit, calibrate and register; returns the version on record if the frame was trained on before."""
    store = open_store()
    frame = open_frame(store, source, frame_fingerprint)
    assert frame is not None  # the previous task has written it
    manifest = manifest_key(flow_run.flow_name, flow_run.id)
    return train(store, load_contract(source), frame, progress=print, manifest=manifest)
