"""Training: a small seeded search on samples, one fit of the best on all rows, calibration."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import ceil, exp, log
from typing import Any

import numpy as np
import xgboost

from liftloop.contract import Contract
from liftloop.contract_sections import Training
from liftloop.features.names import feature_columns, feature_service_name
from liftloop.runs import Step
from liftloop.stats.calibrate import PlattCalibration, fit_platt
from liftloop.stats.scoring import log_loss
from liftloop.store import ObjectRef, Store, fingerprint_of, sha256_of
from liftloop.training.compute import Compute, open_compute
from liftloop.training.encoder import Encoder
from liftloop.training.fitting import Parameters, Recipe, Rows, Trial, thin_out, try_out
from liftloop.training.frame import FramePart, Part, TrainingFrame
from liftloop.training.model import Model, ModelSpec, register, uncalibrated
from liftloop.training.registry import ModelVersion, find_trained

Progress = Callable[[str], object]

RULE_VERSION = "training 1"
SAMPLED_ROWS = 50_000  # with a reward, and as many without: the most that a trial sees
FITTED: tuple[Part, ...] = ("training", "validation")

# Hardly any splits: what remains to be tried where logs hold next to no signal.
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
    """A model, and how it came about. `log_loss` is on the validation part, by which it was stopped and calibrated."""

    model: Model
    trials: list[Trial]
    best: Trial
    log_loss: float

    @property
    def metrics(self) -> dict[str, Any]:
        return {
            "rounds": self.model.booster.num_boosted_rounds(),
            "parameters": self.best.parameters,
            "validation_log_loss": self.log_loss,
            "trials": [asdict(trial) for trial in self.trials],
        }


def train(
    store: Store,
    contract: Contract,
    frame: TrainingFrame,
    progress: Progress = _log.info,
    manifest: str | None = None,
) -> tuple[ModelVersion, Step]:
    """Train on a frame and register the model; if just that was done before, the version on record.

    `progress` is told of each trial as it ends; `manifest` is the key of the run's manifest.

    Raises:
        TrainingError: the Dask workers did not finish.
    """
    fingerprint = training_fingerprint(contract, frame)
    known = find_trained(store, contract.source, fingerprint)
    version = known or _train(store, contract, frame, fingerprint, progress, manifest)
    metrics = {"version": version.version} | version.metrics
    inputs, outputs = version.frame, version.blobs
    return version, Step(name="train", inputs=inputs, outputs=outputs, metrics=metrics, is_reused=known is not None)


def training_fingerprint(contract: Contract, frame: TrainingFrame) -> str:
    """Changes with whatever a model is made from."""
    settings = contract.training.model_dump_json()
    return fingerprint_of(RULE_VERSION, xgboost.__version__, settings, frame.index.fingerprint)


def fit_model(contract: Contract, frame: TrainingFrame, progress: Progress = _log.info) -> Trained:
    """The model of a frame. In one process, the same frame and contract give the same bytes."""
    recipe = make_recipe(contract, frame)
    parts = {name: frame.index.parts[name] for name in FITTED}
    with open_compute(frame.store.settings) as compute:
        samples = {
            name: compute.load(partial(_load_sample, recipe=recipe, thin=sampler(part)), part.partitions)
            for name, part in parts.items()
        }
        trials = _search(compute, recipe, draw_parameters(contract.training), samples, progress)
        best = min(trials, key=lambda trial: trial.log_loss)
        booster = compute.fit(recipe, best.parameters, **parts)
    booster = booster[: booster.best_iteration + 1]
    calibration, loss = _calibrate(recipe, booster, frame)
    return Trained(Model(booster, _spec(contract, recipe.encoder, calibration)), trials, best, loss)


def make_recipe(contract: Contract, frame: TrainingFrame) -> Recipe:
    """What all fits share, learned from the training part alone. A user enters by features, never by name."""
    text = [name for name, column in contract.context.items() if column.type == "string"]
    numbers = [name for name in contract.context if name not in text]
    counts = frame.value_counts("training", ["ad_id", "placement_id", *text])
    part = frame.index.parts["training"]
    return Recipe(
        settings=frame.store.settings,
        encoder=Encoder.fit(counts, [*numbers, *feature_columns(contract)]),
        reward=contract.reward,
        reward_rate=part.rewards / part.rows,
        maximum_rounds=contract.training.maximum_rounds,
        seed=contract.training.seed,
    )


def sampler(part: FramePart) -> "partial[Rows]":
    """What takes a trial's share out of each partition of a part: nearly all rewards, and few of the other rows."""
    others = part.rows - part.rewards
    return partial(thin_out, stride=ceil(others / SAMPLED_ROWS), rewarded_stride=ceil(part.rewards / SAMPLED_ROWS))


def _load_sample(ref: ObjectRef, recipe: Recipe, thin: Callable[[Rows], Rows]) -> Rows:
    """At once, so that the whole partition is in memory no longer than it must."""
    return thin(recipe.load(ref))


def draw_parameters(training: Training) -> list[Parameters]:
    """One choice for each trial; the same seed draws the same."""
    random = np.random.default_rng(training.seed)
    return [CAUTIOUS, *(_draw(random) for _ in range(training.trials - 1))]


def _draw(random: np.random.Generator) -> Parameters:
    return {
        "max_depth": int(random.integers(3, 7)),
        "eta": _log_uniform(random, 0.1, 0.3),
        "min_child_weight": _log_uniform(random, 2, 50),  # for rare rewards: about the rewards expected in a leaf
        "lambda": _log_uniform(random, 1, 100),
        "max_delta_step": int(random.integers(0, 2)),  # 1 bounds what a leaf with few rewards may claim
        "colsample_bytree": round(float(random.uniform(0.6, 1)), 2),
    }


def _log_uniform(random: np.random.Generator, low: float, high: float) -> float:
    return float(f"{exp(random.uniform(log(low), log(high))):.3g}")


def _search(
    compute: Compute,
    recipe: Recipe,
    drawn: Sequence[Parameters],
    samples: dict[Part, Sequence[Any]],
    progress: Progress,
) -> list[Trial]:
    trials = []
    threads = compute.threads_for(len(drawn))
    numbered = enumerate(drawn, start=1)
    for trial in compute.run(try_out, numbered, recipe=recipe, threads=threads, **samples):
        came_to = f"log loss {trial.log_loss:.5f} after {trial.rounds} rounds and {trial.seconds:.1f} s"
        progress(f"trial {trial.number} of {len(drawn)}: {came_to}")
        trials.append(trial)
    return sorted(trials, key=lambda trial: trial.number)


def _calibrate(recipe: Recipe, booster: xgboost.Booster, frame: TrainingFrame) -> tuple[PlattCalibration, float]:
    """The calibration that the validation part asks for, and the log loss with it."""
    scored = [
        (rows[recipe.reward].to_numpy(), uncalibrated(booster, recipe.encoder.encode(rows)))
        for rows in frame.read("validation")
    ]
    reward, probability = (np.concatenate(column) for column in zip(*scored, strict=True))
    calibration = fit_platt(reward, probability)
    return calibration, log_loss(reward, calibration.apply(probability))


def _spec(contract: Contract, encoder: Encoder, calibration: PlattCalibration) -> ModelSpec:
    return ModelSpec(
        reward=contract.reward,
        feature_service=feature_service_name(contract),
        encoder=encoder,
        calibration=calibration,
        contract_sha256=sha256_of(contract.model_dump_json().encode()),
    )


def _train(
    store: Store,
    contract: Contract,
    frame: TrainingFrame,
    fingerprint: str,
    progress: Progress,
    manifest: str | None,
) -> ModelVersion:
    trained = fit_model(contract, frame, progress)
    return register(
        store,
        contract.source,
        trained.model,
        training_fingerprint=fingerprint,
        frame=frame.index,
        metrics=trained.metrics,
        manifest=manifest,
    )
