"""What features over time windows are worth in the simulated world that moves, and in the one that does not.

    python -m bench.window_features [--impressions N]

Two models with the same fixed parameters, of all columns and of those that are no window features, are fitted on the
same days and compared on the newest six. If the windows saved no log loss where the world moves, it would be too easy.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from bench.measure import Case, console, report
from bench.own_stack import simulated_files
from liftloop.compute.compute import OneProcess
from liftloop.contract.contract import Contract
from liftloop.datasets.simulated import SimulationSettings
from liftloop.datasets.simulated.effects import LANDS_WHOLE, STATIC, Effects
from liftloop.datasets.simulated.landing import document_of
from liftloop.evaluation.rewards import RewardSample
from liftloop.features.definitions import feature_columns
from liftloop.features.materialize import update_online_store
from liftloop.features.tiles import update_tiles
from liftloop.features.windows import update_feature_tables
from liftloop.lake.lake import Lake
from liftloop.landing.ingest import ingest_batch, pending_batches
from liftloop.model.model import predict_uncalibrated
from liftloop.project import find_project
from liftloop.settings import Settings
from liftloop.stack.standalone_store import standalone_object_store
from liftloop.stats.columns import Floats
from liftloop.stats.interval import Interval
from liftloop.storage.store import Store, land
from liftloop.training.boosting import Recipe
from liftloop.training.fit import fit
from liftloop.training.frame import TrainingFrame
from liftloop.training.frame_builder import build_frame
from liftloop.training.train import make_recipe

DAYS, SEED, S3_PORT = 16, 7, 14_330
PARAMETERS = {"max_depth": 4, "eta": 0.1, "min_child_weight": 20.0}
GOAL = 0.005  # of log loss, at least, in the world that moves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--impressions", type=int, default=400_000)
    impressions = parser.parse_args().impressions
    saved = {}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for name, effects in (("moves", LANDS_WHOLE), ("is static", STATIC)):
            saved[name] = pool.submit(saved_by_windows, effects, impressions).result()
            console.print(f"log loss saved by window features where the world {name}: {saved[name]:.2%}")
    case = Case("log loss saved in the world that moves", saved["moves"].estimate, GOAL, 1.0, "share", is_rate=True)
    report("window_features", [case], impressions=impressions, low=saved["moves"].low, high=saved["moves"].high)


def saved_by_windows(effects: Effects, impressions: int) -> Interval:
    """The share of the log loss of a model without window features that one with them saves."""
    with simulated_features(effects, impressions) as (store, contract):
        return _compare(contract, build_frame(store, contract))


@contextmanager
def simulated_features(effects: Effects, impressions: int, seed: int = SEED) -> Iterator[tuple[Store, Contract]]:
    """A store of its own with the features of a simulated log, from landed files on."""
    settings = SimulationSettings(impressions=impressions, days=DAYS, seed=seed, effects=effects)
    contract = contract_of(effects)
    with (
        tempfile.TemporaryDirectory(prefix="liftloop-bench-") as home,
        standalone_object_store(Settings(home=Path(home), s3_port=S3_PORT)) as running,
    ):
        store = Store(running)
        for key, body in simulated_files(settings):
            land(store, contract.source, key, body)
        lake = Lake(store, contract)
        for batch in list(pending_batches(lake)):
            ingest_batch(lake, batch)
        update_tiles(store, contract)
        update_feature_tables(store, contract)
        update_online_store(store, contract)  # which also registers the features with Feast
        yield store, contract


def contract_of(effects: Effects) -> Contract:
    """The simulated publisher's, judged on days."""
    document = yaml.safe_load((find_project().contracts_folder / "simulated.yaml").read_text())
    document = document_of(document, effects) | {"split": {"validation": "2d", "holdout": "6d"}, "gate": {}}
    return Contract.model_validate(document | {"objective": "clicks"})


def _compare(contract: Contract, frame: TrainingFrame) -> Interval:
    whole = make_recipe(contract, frame)
    windows = set(feature_columns(contract))
    plain = [name for name, sources in whole.encoder.sources.items() if not windows & {name, *sources}]
    holdout = frame.holdout
    sample = RewardSample.of(contract, holdout, holdout[contract.reward].to_numpy(dtype=np.float64))
    recipes = whole, whole.select(plain)
    console.print(f"columns: {len(recipes[0].encoder.columns)} with windows, {len(plain)} without")
    with_windows, without = (fitted(recipe, frame)(holdout) for recipe in recipes)
    return sample.loss_reduction(with_windows, without)


def fitted(recipe: Recipe, frame: TrainingFrame) -> Callable[[pd.DataFrame], Floats]:
    """Predictions, for any rows, of a model of the frame with the fixed parameters."""
    booster = fit(OneProcess(), recipe, PARAMETERS, frame.index.parts["training"], frame.index.parts["validation"])
    best = booster[: booster.best_iteration + 1]

    def predict(rows: pd.DataFrame) -> Floats:
        codes = recipe.encoder.encode(rows).to_numpy()
        return np.asarray(predict_uncalibrated(best, codes), dtype=np.float64)

    return predict


if __name__ == "__main__":
    main()
