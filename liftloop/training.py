"""Training: a small seeded search over samples, then one fit on all rows and calibration."""

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from math import ceil
from time import perf_counter

import numpy as np
import xgboost

from liftloop.compute import Compute, open_compute
from liftloop.contract import Contract, Training
from liftloop.encoder import Encoder
from liftloop.features import feature_columns, feature_service_name
from liftloop.fitting import Parameters, Recipe, Trial, thin_out, try_out
from liftloop.frame import FramePart, TrainingFrame
from liftloop.model import Model, ModelSpec, uncalibrated
from liftloop.registry import ModelVersion, find_trained, register
from liftloop.runs import Step
from liftloop.stats.calibrate import fit_platt
from liftloop.stats.scoring import log_loss
from liftloop.store import Store, fingerprint_of

RULE_VERSION = "training 1"
SAMPLED_ROWS = 100_000  # with a reward, and without one: what a trial sees at most

# Hardly any splits: what is left to try where the logs hold next to no signal.
CAUTIOUS: Parameters = {
    "max_depth": 2,
    "eta": 0.2,
    "min_child_weight": 20,
    "lambda": 50,
    "max_delta_step": 1,
    "colsample_bytree": 1,
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A model, the trials it was chosen from, and its log loss on the validation part that it was calibrated on."""

    model: Model
    trials: list[Trial]
    validation_log_loss: float


def train(store: Store, contract: Contract, frame: TrainingFrame) -> tuple[ModelVersion, Step]:
    """Train and register a model of a frame; the version on record if this was done before.

    Raises:
        TrainingError: the workers did not finish.
    """
    fingerprint = training_fingerprint(contract, frame)
    version = find_trained(store, contract.source, fingerprint)
    ...


def training_fingerprint(contract: Contract, frame: TrainingFrame) -> str:
    """What a model depends on, beside chance that the seed decides."""
    return fingerprint_of(RULE_VERSION, xgboost.__version__, contract.training.model_dump_json(), frame.index.fingerprint)


def fit_model(contract: Contract, frame: TrainingFrame) -> Trained:
    """Search, fit, calibrate."""
    recipe = make_recipe(contract, frame)
    with open_compute(frame.store.settings) as compute:
        training = compute.map(recipe.load, frame.index.parts["training"].partitions)
        validation = compute.map(recipe.load, frame.index.parts["validation"].partitions)
        trials = search()
        ...
