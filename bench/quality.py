"""Our search against LightGBM and CatBoost, on three real ad logs, Open Bandit and the simulated publisher.

    python -m bench.quality [--sets avazu …] [--budget-seconds 120] [--data ../shared/data] [--impressions 1000000]

Ours runs as the owner of a source gets it: a contract, landed files, and no code. The peers get the same rows with
their raw columns, once with defaults and once tuned by Optuna, which has as many seconds as our search. All of them
learn from the training part, choose by the validation part, and are scored on the hold-out, one after another.

Ours should be best or tied: higher in log loss by no more than chance may bring, so that the paired interval of the
difference includes 0. A set whose log cannot be had is skipped.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
from rich.console import Console

from bench.contest import CONSTANT, OURS, TRUTH, Contest, Entrant
from bench.hashed_regression import fit_hashed_regression, hash_columns
from bench.measure import console, report
from bench.own_stack import static_contract
from bench.real_logs import CONTRACTS, DATA_FOLDER, REAL_LOGS, land_real_log
from liftloop.contract.contract import Contract
from liftloop.contract.loading import load_contract
from liftloop.datasets import open_bandit, simulated
from liftloop.datasets.simulated.effects import STATIC
from liftloop.datasets.simulated.truth import Truth
from liftloop.evaluation.rewards import RewardSample
from liftloop.features.feast_repo import apply_features
from liftloop.features.tiles import update_tiles
from liftloop.features.windows import update_feature_tables
from liftloop.lake.lake import Lake
from liftloop.landing.ingest import ingest_batch, pending_batches
from liftloop.settings import Settings, load_settings
from liftloop.stack.standalone_store import standalone_object_store
from liftloop.stats.columns import Floats
from liftloop.storage.store import Store, land
from liftloop.training.frame import TrainingFrame
from liftloop.training.frame_builder import build_frame
from liftloop.training.train import fit_model

SETS = (*REAL_LOGS, "open_bandit", "simulated")
SIMULATED_DAYS = 10
S3_PORT = 14_260
MOST_TRIALS, MOST_ROUNDS = 10_000, 1_000  # of ours: the budget alone ends the search

progress = Console(stderr=True)

Contestant = Callable[[], tuple[Floats, str]]  # predictions for the hold-out, and how it came to them


class SkippedError(Exception):
    """A log cannot be had; the message says why."""


def main(sets: list[str], budget_seconds: float, data: Path, impressions: int) -> None:
    _require_peers()
    contests = []
    with tempfile.TemporaryDirectory(prefix="liftloop-") as home, ExitStack() as stack:
        store = Store(stack.enter_context(standalone_object_store(Settings(home=Path(home), s3_port=S3_PORT))))
        for name in sets:
            try:
                _land(store, name, data, impressions)
            except SkippedError as reason:
                progress.print(f"{name}: skipped, {reason}")
                continue
            contests.append(_contest(store, name, budget_seconds))
            console.print(contests[-1].table())
    if not contests:
        sys.exit("none of the sets could be had")
    cases = [case for contest in contests for case in contest.cases()]
    scores = {contest.name: contest.scores() for contest in contests}
    report("quality", cases, budget_seconds=budget_seconds, cores=os.cpu_count(), sets=scores)


def _require_peers() -> None:
    try:
        import bench.peers  # noqa: F401, PLC0415  (what it needs is not installed with liftloop)
    except ModuleNotFoundError as error:
        sys.exit(f"{error.name} is not installed; the peers need it: pip install --editable '.[bench]'")


def _land(store: Store, name: str, data: Path, impressions: int) -> None:
    land_file = partial(land, store, name)
    try:
        if name in REAL_LOGS:
            land_real_log(name, data, land_file)
        elif name == "open_bandit":
            open_bandit.land_sample(open_bandit.obtain(load_settings().home / "cache"), land_file)
        else:
            simulation = simulated.SimulationSettings(
                impressions=impressions, days=SIMULATED_DAYS, seed=7, effects=STATIC
            )
            simulated.simulate(simulation, land_file, _truth_folder(store))
    except FileNotFoundError as error:
        raise SkippedError(f"{error.filename} is not there; --data names the folder of the real logs") from None
    except open_bandit.OpenBanditError as error:
        raise SkippedError(str(error)) from None


def _contest(store: Store, name: str, budget_seconds: float) -> Contest:
    contract = _contract(name)
    frame = _frame(store, contract)
    reward = frame.holdout[contract.reward].to_numpy(np.float64)
    contest = Contest(name, RewardSample.of(contract, frame.holdout, reward))
    before = frame.index.together(("training", "validation"))  # what a model without signal comes to, too
    contest.entrants[CONSTANT] = Entrant(np.full_like(reward, before.reward_rate(contract.outcome.negatives_kept)))
    if name == "simulated":
        contest.entrants[TRUTH] = Entrant(_true_probabilities(store, frame))
    for entrant, compete in _contestants(contract, frame, budget_seconds).items():
        started = perf_counter()
        holdout, how = compete()
        contest.entrants[entrant] = Entrant(holdout, how, perf_counter() - started)
        progress.print(f"{name}: {entrant} {contest.log_loss(entrant):.5f}, {how}")
    return contest


def _contract(name: str) -> Contract:
    if name in REAL_LOGS:
        return load_contract(name, CONTRACTS)
    return static_contract() if name == "simulated" else load_contract(name)


def _frame(store: Store, contract: Contract) -> TrainingFrame:
    """From landed files to the training frame, step by step as the flows do it."""
    for batch in pending_batches(Lake(store, contract)):
        ingest_batch(Lake(store, contract), batch)
    update_tiles(store, contract)
    update_feature_tables(store, contract)
    apply_features(store, [contract])
    frame = build_frame(store, contract)
    rows = ", ".join(f"{part} {each.rows:,}" for part, each in frame.index.parts.items())
    progress.print(f"{contract.source}: impressions for {rows}")
    return frame


def _contestants(contract: Contract, frame: TrainingFrame, budget_seconds: float) -> dict[str, Contestant]:
    from bench import peers  # noqa: PLC0415  (see _require_peers)

    rows = peers.raw_rows(contract, frame)
    contestants: dict[str, Contestant] = {OURS: partial(_ours, contract, frame, budget_seconds)}
    for name, peer in peers.PEERS.items():
        contestants[f"{name}, defaults"] = partial(peers.with_defaults, peer, rows)
        contestants[f"{name}, tuned"] = partial(peers.tuned, peer, rows, budget_seconds)
    contestants["hashed regression"] = partial(_hashed_regression, contract, frame)
    return contestants


def _hashed_regression(contract: Contract, frame: TrainingFrame) -> tuple[Floats, str]:
    regression = fit_hashed_regression(contract, frame)
    return regression.predict(hash_columns(contract, frame.holdout)), "our features, hashed"


def _ours(contract: Contract, frame: TrainingFrame, budget_seconds: float) -> tuple[Floats, str]:
    limits = {"budget_seconds": budget_seconds, "trials": MOST_TRIALS, "maximum_rounds": MOST_ROUNDS}
    budget = contract.training.model_copy(update=limits)
    trained = fit_model(contract.model_copy(update={"training": budget}), frame, progress.print)
    before = trained.folds[0].model  # fitted before the hold-out, as the peers are
    return before.predict(frame.holdout), f"{len(trained.trials)} trials"


def _true_probabilities(store: Store, frame: TrainingFrame) -> Floats:
    known = ["user_id", "placement_id", "device", "event_timestamp", "ad_id"]
    return Truth.load(_truth_folder(store)).click_probability(**{name: frame.holdout[name] for name in known})


def _truth_folder(store: Store) -> Path:
    return store.settings.home / "truth"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--budget-seconds", type=float, default=120.0, help="of each search, ours and the peers'")
    parser.add_argument("--data", type=Path, default=DATA_FOLDER, help="the folder with the real logs")
    parser.add_argument("--impressions", type=int, default=1_000_000, help="of the simulated publisher")
    return parser.parse_args()


if __name__ == "__main__":
    main(**vars(_arguments()))
