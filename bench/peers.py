"""LightGBM and CatBoost as a good practitioner runs them: raw columns, ids as categories, early stopping, Optuna."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

import catboost
import lightgbm
import numpy as np
import optuna
import pandas as pd

from liftloop.contract.contract import Contract
from liftloop.stats.columns import Floats
from liftloop.training.frame import Part, TrainingFrame

ROUNDS = 1000
STOP_AFTER_ROUNDS = 50
SEED = 7
THREADS = os.cpu_count() or 1
NEVER = float("inf")
PARTS: tuple[Part, ...] = ("training", "validation", "holdout")

_IDS = ("ad_id", "placement_id", "campaign_id", "advertiser_id", "site_id", "user_id")
Parameters = dict[str, Any]
Predict = Callable[[pd.DataFrame], Floats]  # probabilities, shape (rows,)


@dataclass(frozen=True)
class RawRows:
    """Rows of a part as the log has them; text is a category."""

    columns: pd.DataFrame
    reward: Floats


Split = Mapping[Part, RawRows]


@dataclass(frozen=True)
class Fitted:
    """A model that was stopped by the validation part, and what it came to there."""

    parameters: Parameters
    rounds: int
    log_loss: float
    predict: Predict


@dataclass(frozen=True)
class Peer:
    fit: Callable[[Split, Parameters, float], Fitted]  # until the `monotonic` time at the latest
    refit: Callable[[RawRows, Parameters, int], Predict]  # so many rounds, nothing stops it
    suggest: Callable[[optuna.Trial], Parameters]


def raw_rows(contract: Contract, frame: TrainingFrame) -> dict[Part, RawRows]:
    """What the log says of each impression, its ids and its context, without the features that we make of them."""
    names = [name for name in _IDS if name in contract.columns] + list(contract.context)
    rows = {part: pd.concat(frame.read(part), ignore_index=True) for part in PARTS}
    every = pd.concat(rows.values())  # what is new in the hold-out must not look like a missing value
    text = [name for name in names if every[name].dtype == object]
    kinds = {name: pd.CategoricalDtype(sorted(every[name].dropna().unique())) for name in text}
    return {
        part: RawRows(each[names].astype(kinds), each[contract.reward].to_numpy(float)) for part, each in rows.items()
    }


def with_defaults(peer: Peer, rows: Split) -> tuple[Floats, str]:
    """Predictions for the hold-out, and how it came to them."""
    fitted = peer.fit(rows, {}, NEVER)
    return fitted.predict(rows["holdout"].columns), f"{fitted.rounds} rounds"


def tuned(peer: Peer, rows: Split, budget_seconds: float) -> tuple[Floats, str]:
    """The same of the best that TPE finds in the time, then fitted to training and validation part together."""
    deadline = monotonic() + budget_seconds
    best, trials = _search(peer, rows, deadline)
    both = [rows["training"], rows["validation"]]
    learned = RawRows(pd.concat([each.columns for each in both]), np.concatenate([each.reward for each in both]))
    predict = peer.refit(learned, best.parameters, best.rounds)
    return predict(rows["holdout"].columns), f"{trials} trials, best has {best.rounds} rounds"


def _search(peer: Peer, rows: Split, deadline: float) -> tuple[Fitted, int]:
    """The best on the validation part, and the number of trials; the defaults are the first."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = [peer.fit(rows, {}, deadline)]

    def objective(trial: optuna.Trial) -> float:
        found.append(peer.fit(rows, peer.suggest(trial), deadline))
        return found[-1].log_loss

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=SEED))
    while monotonic() < deadline:
        study.optimize(objective, n_trials=1)
    return min(found, key=lambda fitted: fitted.log_loss), len(found)


def fit_lightgbm(rows: Split, parameters: Parameters, deadline: float) -> Fitted:
    training = lightgbm.Dataset(rows["training"].columns, rows["training"].reward)
    validation = lightgbm.Dataset(rows["validation"].columns, rows["validation"].reward, reference=training)
    stops: list[Callable[..., Any]] = [
        lightgbm.early_stopping(STOP_AFTER_ROUNDS, verbose=False),
        lambda environment: _stop_lightgbm(environment, deadline),
    ]
    booster = lightgbm.train(
        _LIGHTGBM | parameters, training, ROUNDS, valid_sets=[validation], valid_names=["validation"], callbacks=stops
    )
    loss = booster.best_score["validation"]["binary_logloss"]
    return Fitted(parameters, booster.best_iteration, loss, lambda columns: np.asarray(booster.predict(columns)))


def refit_lightgbm(rows: RawRows, parameters: Parameters, rounds: int) -> Predict:
    booster = lightgbm.train(_LIGHTGBM | parameters, lightgbm.Dataset(rows.columns, rows.reward), rounds)
    return lambda columns: np.asarray(booster.predict(columns))


def suggest_lightgbm(trial: optuna.Trial) -> Parameters:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 4, 256, log=True),
        "min_child_samples": trial.suggest_int("min_child_samples", 5, 500, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.4, 1),
        "bagging_fraction": trial.suggest_float("bagging_fraction", 0.5, 1),
        "bagging_freq": 1,
        "lambda_l1": trial.suggest_float("lambda_l1", 1e-3, 100, log=True),
        "lambda_l2": trial.suggest_float("lambda_l2", 1e-3, 100, log=True),
        "cat_smooth": trial.suggest_float("cat_smooth", 1, 500, log=True),
        "cat_l2": trial.suggest_float("cat_l2", 1, 500, log=True),
        "min_data_per_group": trial.suggest_int("min_data_per_group", 5, 500, log=True),
    }


_LIGHTGBM: Parameters = {"objective": "binary", "seed": SEED, "num_threads": THREADS, "verbosity": -1}


def _stop_lightgbm(environment: Any, deadline: float) -> None:
    if monotonic() > deadline:
        raise lightgbm.callback.EarlyStopException(environment.iteration, environment.evaluation_result_list)


def fit_catboost(rows: Split, parameters: Parameters, deadline: float) -> Fitted:
    model = _catboost(parameters, ROUNDS)
    model.fit(
        _pool(rows["training"].columns, rows["training"].reward),
        eval_set=_pool(rows["validation"].columns, rows["validation"].reward),
        early_stopping_rounds=STOP_AFTER_ROUNDS,
        callbacks=[_StopCatBoost(deadline)],
    )
    loss = model.get_best_score()["validation"]["Logloss"]
    found = {"learning_rate": model.learning_rate_} | parameters  # its default depends on rows and rounds
    return Fitted(found, model.tree_count_, loss, lambda columns: np.asarray(model.predict_proba(_pool(columns))[:, 1]))


def refit_catboost(rows: RawRows, parameters: Parameters, rounds: int) -> Predict:
    model = _catboost(parameters, rounds)
    model.fit(_pool(rows.columns, rows.reward))
    return lambda columns: np.asarray(model.predict_proba(_pool(columns))[:, 1])


def suggest_catboost(trial: optuna.Trial) -> Parameters:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.3, log=True),
        "depth": trial.suggest_int("depth", 3, 10),
        "l2_leaf_reg": trial.suggest_float("l2_leaf_reg", 1, 100, log=True),
        "random_strength": trial.suggest_float("random_strength", 0.1, 10, log=True),
        "bagging_temperature": trial.suggest_float("bagging_temperature", 0, 1),
        "one_hot_max_size": trial.suggest_int("one_hot_max_size", 2, 64, log=True),
        "max_ctr_complexity": trial.suggest_int("max_ctr_complexity", 1, 3),
    }


@dataclass(frozen=True)
class _StopCatBoost:
    deadline: float

    def after_iteration(self, _info: Any) -> bool:
        return monotonic() < self.deadline


def _catboost(parameters: Parameters, rounds: int) -> Any:
    fixed = {"random_seed": SEED, "thread_count": THREADS, "verbose": False, "allow_writing_files": False}
    return catboost.CatBoostClassifier(iterations=rounds, **fixed, **parameters)


def _pool(columns: pd.DataFrame, reward: Floats | None = None) -> Any:
    categories = list(columns.select_dtypes("category"))
    text = columns.astype(dict.fromkeys(categories, str))  # a missing one reads "nan", a category like others
    return catboost.Pool(text, reward, cat_features=categories)


PEERS = {
    "LightGBM": Peer(fit_lightgbm, refit_lightgbm, suggest_lightgbm),
    "CatBoost": Peer(fit_catboost, refit_catboost, suggest_catboost),
}
