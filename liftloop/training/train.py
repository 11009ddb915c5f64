"""Training: a search on samples, calibration on the validation part, and fits of the best trial.

One fit for each judged day, on all days before it, and one on all rows, which is served.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
import optuna
import xgboost

from liftloop.compute.compute import Compute, open_compute
from liftloop.contract.contract import Contract
from liftloop.features.definitions import feature_columns, feature_service_name
from liftloop.model.earnings import Earnings
from liftloop.model.encoder import Encoder
from liftloop.model.model import Model, ModelSpec, predict_uncalibrated
from liftloop.registry.load import Fold, register
from liftloop.registry.registry import Registry
from liftloop.registry.versions import ModelVersion
from liftloop.stats.calibrate import fit_calibration
from liftloop.stats.calibration import Calibration
from liftloop.stats.scoring import log_loss_per_row, sampling_weight
from liftloop.storage.hashing import fingerprint_of, sha256_of
from liftloop.storage.keys import trials_prefix
from liftloop.storage.runs import Step, record
from liftloop.storage.store import Store
from liftloop.training.boosting import DownsampleRates, Recipe
from liftloop.training.clicked import clicked_frame
from liftloop.training.constraints import model_columns, require_known_constraints
from liftloop.training.devices import require_device
from liftloop.training.earnings import fit_earnings, pays_for_conversions
from liftloop.training.fit import fit
from liftloop.training.frame import FramePart, Part, TrainingFrame
from liftloop.training.frame_builder import FrameError
from liftloop.training.search import Journal, Search, Space, allowed_encoders
from liftloop.training.target_encoding import fit_encoders
from liftloop.training.trial import Trial

Progress = Callable[[str], object]

RULE_VERSION = "training 6"
SAMPLED_ROWS = 50_000  # at most, with a reward, and as many without: the sample of a trial
FITTED: tuple[Part, ...] = ("training", "validation")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """A model and its search. `log_loss` is on the validation part, which also stopped and calibrated the fit.

    `model` is served. `folds` are the models that judge it: each was fitted on the days before its own. `conversion` is
    the same of P(conversion | click), where the objective needs it.
    """

    model: Model
    trials: list[Trial]
    best: Trial
    log_loss: float
    folds: tuple[Fold, ...]
    conversion: "Trained | None" = None

    def with_conversion(self, conversion: "Trained") -> "Trained":
        """With a model of P(conversion | click); all folds share that of the days before the hold-out."""
        (before,) = conversion.folds
        folds = tuple(replace(fold, model=replace(fold.model, conversion=before.model)) for fold in self.folds)
        model = replace(self.model, conversion=conversion.model)
        return replace(self, model=model, folds=folds, conversion=conversion)

    @property
    def metrics(self) -> dict[str, Any]:
        return {
            "rounds": self.model.booster.num_boosted_rounds(),
            "parameters": self.best.parameters,
            "encoding": self.best.encoding,
            "validation_log_loss": self.log_loss,
            "trials": [trial.model_dump(exclude={"curve"}) for trial in self.trials],
            "conversion": self.conversion and self.conversion.metrics,
        }


def train(
    store: Store,
    contract: Contract,
    frame: TrainingFrame,
    progress: Progress = _log.info,
    manifest: str | None = None,
) -> ModelVersion:
    """Train on a frame and register the model; returns the version on record if this training was done before.

    An interrupted training resumes with its finished trials.

    Args:
        progress: called with one line as each trial ends.
        manifest: the key of the run's manifest.

    Raises:
        ContractError: a constraint names an unknown column.
        FrameError: no column can be learned from.
        ClusterError: there are no Dask workers, or they did not finish.
        NoDeviceError: the device in the settings is not available.
    """
    fingerprint = training_fingerprint(contract, frame)
    known = Registry(store, contract.source).find_trained(fingerprint)
    version = known or _train(store, contract, frame, fingerprint, progress, manifest)
    metrics = {"version": version.version} | version.metrics
    inputs, outputs = version.frame, (*version.blobs, *version.fold_blobs)
    record(Step(name="train", inputs=inputs, outputs=outputs, metrics=metrics, is_reused=known is not None))
    return version


def training_fingerprint(contract: Contract, frame: TrainingFrame) -> str:
    """Changes with everything that a model depends on."""
    settings = contract.training.model_dump_json()
    kept, objective = contract.outcome.negatives_kept, (contract.objective, contract.gate.winsorized_share)
    versions = xgboost.__version__, optuna.__version__
    return fingerprint_of(RULE_VERSION, *versions, settings, kept, *objective, frame.index.fingerprint)


def fit_model(
    contract: Contract, frame: TrainingFrame, progress: Progress = _log.info, journal: Journal | None = None
) -> Trained:
    """The model of a frame. In one process, the same frame and contract give the same bytes if the budget suffices.

    The validation part stops and calibrates a fit on the training part; the models of the judged days, and the one that
    is served, have the same number of rounds. Trials are written to the `journal` as they end, and not repeated if
    found there.
    """
    recipe = make_recipe(contract, frame)
    _require_columns(contract, frame, recipe.encoder)
    space = Space(recipe.encoder, windows=frozenset(feature_columns(contract)))
    with open_compute(frame.store.settings) as compute:
        require_device(compute, frame.store.settings.device)
        samples = _load_samples(compute, recipe, frame)
        trials = Search(compute, recipe, space, samples, contract.training, journal, progress).run()
        best = min(trials, key=lambda trial: trial.log_loss)
        columns = space.columns(best.encoding)
        chosen = recipe.select(columns)
        validation = frame.index.parts["validation"]
        stopped = _fit(compute, chosen, best, frame.index.parts["training"], validation)
        calibration, loss = _calibrate(chosen, stopped, frame, len(trials))

        def refitted(until: datetime) -> Model:
            known = frame.until(until)
            whole = make_recipe(contract, known, FITTED, crosses=space.crosses).select(columns)
            whole = replace(whole, maximum_rounds=stopped.num_boosted_rounds())
            booster = _fit(compute, whole, best, known.index.together(FITTED), validation)
            return Model(booster, _spec(contract, whole.encoder, calibration, fit_earnings(contract, known, FITTED)))

        folds = tuple(Fold(day.start, day.end, refitted(day.start)) for day in frame.index.judged_days if day.rows)
        model = refitted(frame.index.parts["holdout"].end)
    return Trained(model, trials, best, loss, folds)


def make_recipe(
    contract: Contract,
    frame: TrainingFrame,
    parts: Sequence[Part] = ("training",),
    crosses: Sequence[tuple[str, ...]] | None = None,
) -> Recipe:
    """What all fits share, fitted on these parts alone. Its encoder has every column that the search may choose.

    Args:
        crosses: see `fit_encoders`.

    Raises:
        ContractError: a constraint names an unknown column.
    """
    require_known_constraints(contract)
    kept = contract.outcome.negatives_kept
    text, numbers, presence = model_columns(contract)
    # XGBoost's workers fail where no number of any of their rows has a value.
    numbers = frame.columns_with_values(parts, numbers)
    fitted = fit_encoders(frame, parts, contract.reward, text, numbers, presence, kept, crosses)
    encoder, *out_of_fold = allowed_encoders(fitted, contract.training)
    return Recipe(
        settings=frame.store.settings,
        encoder=encoder,
        reward=contract.reward,
        reward_rate=frame.index.together(parts).reward_rate(kept),
        maximum_rounds=contract.training.maximum_rounds,
        seed=contract.training.seed,
        out_of_fold=tuple(out_of_fold),
        encoder_partitions=frozenset(ref.key for name in parts for ref in frame.index.parts[name].partitions),
        constraints=contract.training,
        negatives_kept=kept,
    )


def _require_columns(contract: Contract, frame: TrainingFrame, encoder: Encoder) -> None:
    """Require that the training part has a column to learn from.

    Raises:
        FrameError: it has none.
    """
    if not (encoder.numbers or encoder.presence or encoder.lookups):
        raise FrameError(
            f"there is nothing to learn from in the {frame.index.parts['training'].rows} training rows of"
            f" {contract.source}: they have no numbers, and no text value more than once. Land more days, or map more"
            f" columns as context in contracts/{contract.source}.yaml"
        )


def _load_samples(compute: Compute, recipe: Recipe, frame: TrainingFrame) -> dict[str, Sequence[Any]]:
    """A trial's sample of each part."""
    parts = {name: frame.index.parts[name] for name in FITTED}
    return {
        name: compute.load(partial(recipe.load, rates=DownsampleRates.for_at_most(SAMPLED_ROWS, part)), part.partitions)
        for name, part in parts.items()
    }


def _fit(compute: Compute, recipe: Recipe, best: Trial, rows: FramePart, validation: FramePart) -> xgboost.Booster:
    """The booster up to its best round on the validation part; if that is among the rows, the last round."""
    booster = fit(compute, recipe, best.parameters, rows, validation)
    return booster[: booster.best_iteration + 1]


def _calibrate(
    recipe: Recipe, booster: xgboost.Booster, frame: TrainingFrame, trials: int
) -> tuple[Calibration, float]:
    """The calibration fitted on the validation part, and the log loss with it."""
    scored = [
        (rows[recipe.reward].to_numpy(), predict_uncalibrated(booster, recipe.encoder.encode(rows).to_numpy()))
        for rows in frame.read("validation")
    ]
    reward, probability = (np.concatenate(column) for column in zip(*scored, strict=True))
    kept = recipe.negatives_kept
    weight, mean_rate = sampling_weight(reward, kept), frame.index.together(FITTED).reward_rate(kept)
    choices = trials + 1  # and the round at which the best one stopped
    calibration = fit_calibration(reward, probability, mean_rate=mean_rate, negatives_kept=kept, candidates=choices)
    losses = log_loss_per_row(reward, calibration.apply(probability))
    return calibration, float(np.average(losses, weights=weight))


def _spec(contract: Contract, encoder: Encoder, calibration: Calibration, earnings: Earnings) -> ModelSpec:
    return ModelSpec(
        reward=contract.reward,
        feature_service=feature_service_name(contract),
        encoder=encoder,
        calibration=calibration,
        earnings=earnings,
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
    trials = trials_prefix(contract.source, fingerprint)
    trained = fit_model(contract, frame, progress, Journal(store, trials))
    if pays_for_conversions(contract, frame, FITTED):
        progress("conversions of clicked impressions:")
        journal = Journal(store, f"{trials}conversion-")
        trained = trained.with_conversion(
            fit_model(contract.of_clicked, clicked_frame(contract, frame), progress, journal)
        )
    return register(
        Registry(store, contract.source),
        trained.model,
        training_fingerprint=fingerprint,
        frame_fingerprint=frame.index.fingerprint,
        frame=frame.index.partitions,
        trained_until=frame.index.parts["holdout"].end,
        folds=trained.folds,
        metrics=trained.metrics,
        manifest=manifest,
    )
