"""What decisions for revenue earn in the simulated worlds, and whether intervals of revenue hold for heavy tails.

    python -m bench.objective [--impressions N] [--runs N]

A model for clicks and one for revenue are trained on the same days. On the hold-out, each decides among the ads that
truly compete for an impression; what a decision earns is the ad's bid times its true click probability. The peer takes
the ad for which that is highest: it knows what no log of this size can tell, in the world that moves even how each ad
drifts that day.

Then logs are drawn whose revenue per click is lognormal with a spread of 1.5 (one order in a hundred is 33 times the
median), on seven days that move by 10 %, and two policies are valued as the gate values them, by model and log.
"""

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from bench.gate_worlds import CONTRACT, START
from bench.measure import Case, console, report
from bench.window_features import DAYS, SEED, simulated_features
from liftloop.contract.contract import Contract
from liftloop.contract.sections import Objective
from liftloop.datasets.simulated import SimulationSettings, simulate
from liftloop.datasets.simulated.decision_truth import DecisionTruth
from liftloop.datasets.simulated.effects import LANDS_WHOLE, STATIC, Effects
from liftloop.evaluation.decision_value import value_difference
from liftloop.evaluation.logged_candidates import LoggedCandidates, competing_ads
from liftloop.evaluation.rewards import RewardSample
from liftloop.stats.columns import Floats
from liftloop.stats.interval import Interval
from liftloop.storage.store import Store
from liftloop.training.frame import TrainingFrame
from liftloop.training.frame_builder import build_frame
from liftloop.training.train import fit_model

OBJECTIVES: tuple[Objective, ...] = ("clicks", "revenue")
DECIDED = 30_000  # impressions of the hold-out
WORLDS = {"is static": STATIC.model_copy(update={"ad_drift_days": 1.0}), "moves": LANDS_WHOLE}  # the first by no size
GOAL = 0.95  # of what the best decisions earn
ROWS, USERS, CONTEXTS, ADS = 50_000, 5_000, 5, 8
VALUE_SPREAD, MOVEMENT = 1.5, 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--impressions", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=400)
    arguments = parser.parse_args()
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        shares = {
            name: pool.submit(earned_shares, effects, arguments.impressions).result()
            for name, effects in WORLDS.items()
        }
        hits = [*pool.map(covers, range(arguments.runs), chunksize=10)]
    for world, found in shares.items():
        for name, share in found.items():
            console.print(f"in the world that {world}, decisions for {name} earn {share:.1%} of what the best would")
    test = binomtest(sum(hits), len(hits))
    held = test.proportion_ci(method="wilson")
    console.print(
        f"paired differences within their 95 % interval: {test.statistic:.1%} [{held.low:.1%}, {held.high:.1%}]"
    )
    cases = [
        *(
            Case(f"decisions for revenue, world {world}", found["revenue"].estimate, GOAL, 1.0, "share", is_rate=True)
            for world, found in shares.items()
        ),
        Case("coverage of the paired difference off 0.95", abs(test.statistic - 0.95), 0.02, 1.0, "share"),
    ]
    report("objective", cases, **vars(arguments))


def earned_shares(effects: Effects, impressions: int) -> dict[str, Interval]:
    """What decisions for each objective earn, and the logged ones, as a share of what the best would."""
    settings = SimulationSettings(impressions=impressions, days=DAYS, seed=SEED, effects=effects)
    with (
        tempfile.TemporaryDirectory() as folder,
        simulated_features(effects, impressions) as (store, contract),
    ):
        simulate(settings, lambda _key, _body: None, Path(folder))
        truth, frame = DecisionTruth.load(Path(folder)), build_frame(store, contract)
        rows = frame.holdout.sample(DECIDED, random_state=SEED).sort_index().reset_index(drop=True)
        found = [_decided(store, contract, objective, frame, rows, truth) for objective in OBJECTIVES]
    sample = RewardSample.of(contract, rows, rows[contract.reward].to_numpy(dtype=np.float64))
    best = found[0]["best"]
    earned = dict(zip(OBJECTIVES, (each["ours"] for each in found), strict=True)) | {"the log": found[0]["logged"]}
    return {name: sample.ratio(values, best) for name, values in earned.items()}


def _decided(
    store: Store,
    contract: Contract,
    objective: Objective,
    frame: TrainingFrame,
    rows: pd.DataFrame,
    truth: DecisionTruth,
) -> dict[str, Floats]:
    """True values by impression: of the decision for the objective, of the best, and of the logged ad."""
    contract = contract.model_copy(update={"objective": objective})
    model = fit_model(contract, frame, console.print).folds[0].model  # fitted before the hold-out
    ads = competing_ads(store, contract, [ref.key for ref in frame.index.partitions])
    candidates = LoggedCandidates(store, contract, model, ads, rows)
    columns: dict[str, list[Floats]] = {"ours": [], "best": []}
    for chunk in candidates.chunks():
        worth = truth.value(rows["impression_id"].to_numpy()[chunk.owner], ads["ad_id"].to_numpy()[chunk.ad])
        expected = np.where(np.isnan(worth), -np.inf, candidates.value(chunk))
        worth = np.nan_to_num(worth)
        is_chosen = expected == chunk.spread(np.maximum.reduceat(expected, chunk.starts))
        columns["ours"].append(chunk.sums(worth * is_chosen) / chunk.sums(is_chosen.astype(np.float64)))
        columns["best"].append(np.maximum.reduceat(worth, chunk.starts))
    found = {name: np.concatenate(parts) for name, parts in columns.items()}
    return found | {"logged": truth.value(rows["impression_id"], rows["ad_id"])}


def covers(seed: int) -> bool:
    """Whether the interval of the paired difference of two policies holds the true one."""
    rng = np.random.default_rng([seed, ROWS])
    click, worth = rng.beta(2, 40, size=(CONTEXTS, ADS)), rng.lognormal(0, 0.5, ADS)
    logging, ours, theirs = (0.5 / ADS + 0.5 * rng.dirichlet(np.ones(ADS), CONTEXTS) for _ in range(3))
    context, user, time = (
        rng.integers(CONTEXTS, size=ROWS),
        rng.integers(USERS, size=ROWS),
        np.sort(rng.uniform(0, 7, ROWS)),
    )
    ad = (rng.random((ROWS, 1)) > logging.cumsum(axis=1)[context]).sum(axis=1).clip(max=ADS - 1)
    level = rng.lognormal(-(MOVEMENT**2) / 2, MOVEMENT, 7)[time.astype(int)]
    clicked = rng.random(ROWS) < level * click[context, ad]
    revenue = clicked * worth[ad] * rng.lognormal(-(VALUE_SPREAD**2) / 2, VALUE_SPREAD, ROWS)
    model = click * worth * rng.lognormal(0, 0.3, click.shape)
    logged = pd.DataFrame(
        {
            "event_timestamp": START + pd.to_timedelta(time, unit="D"),
            "user_id": user.astype(str),
            "propensity": logging[context, ad],
            "reward": revenue,
            "row_weight": 1.0,
            "model_reward": model[context, ad],
        }
    )
    decisions, rival = (
        logged.assign(target_probability=policy[context, ad], model_target_reward=(policy * model).sum(axis=1)[context])
        for policy in (ours, theirs)
    )
    found = value_difference(CONTRACT, decisions, rival)
    return found.low <= float(((ours - theirs) * click * worth).sum(axis=1).mean()) <= found.high


if __name__ == "__main__":
    main()
