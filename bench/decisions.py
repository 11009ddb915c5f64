"""How often the gate's check of decisions is wrong, on logs whose truth is known.

    python -m bench.decisions [--runs N]

Each run draws click probabilities of 1 % on average for 20 ads in 30 contexts, and a week of 200,000 impressions that
moves by 10 % from day to day: 40 % of them by chance, the others by a softmax. The champion shows the ad with the
highest probability as a model with errors sees it; a challenger shows others, and is worth as much, or 20 % less. Both
explore.
"""

import argparse
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from bench.gate_worlds import CONTRACT, START
from bench.measure import Case, console, report
from liftloop.decisions.policy import EXPLORATION_SHARE
from liftloop.gate.checks.decisions import judge_decisions
from liftloop.gate.verdict import CheckVerdict
from liftloop.stats.columns import Floats

ROWS, USERS, CONTEXTS, ADS, DAYS = 200_000, 20_000, 30, 20, 7
MOVEMENT, ERROR = 0.1, 0.3  # of days, and of models; on the log scale
WORSE = 0.2
MOST_WRONG = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    runs = parser.parse_args().runs
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        found = {
            worse_by: Counter(pool.map(partial(judged, worse_by), range(runs), chunksize=5))
            for worse_by in (WORSE, 0.0)
        }
    for worse_by, verdicts in found.items():
        console.print(f"decisions truly {worse_by:.0%} worse: {dict(verdicts.most_common())}")
    cases = [
        Case("20 % worse than the champion, passed", found[WORSE]["pass"] / runs, MOST_WRONG, 1.0, "share"),
        Case("as good as the champion, failed", found[0.0]["fail"] / runs, MOST_WRONG, 1.0, "share"),
        Case("as good as the champion, untrustworthy", found[0.0]["untrustworthy"] / runs, MOST_WRONG, 1.0, "share"),
    ]
    report("decisions", cases, runs=runs, impressions=ROWS)


def judged(worse_by: float, seed: int) -> CheckVerdict:
    """The verdict on a challenger that is truly worse by this share of the champion's value."""
    rng = np.random.default_rng([seed, round(100 * worse_by)])
    click = 0.01 * rng.lognormal(-0.32, 0.8, (CONTEXTS, ADS))
    logging = _logging(click)
    champion, other = (_greedy(click * rng.lognormal(0, ERROR, click.shape)) for _ in range(2))
    if worse_by == 0 and _value(other, click) < _value(champion, click):
        champion, other = other, champion
    challenger = _weakened(other, click, (1 - worse_by) * _value(champion, click))
    log = _log(rng, click, logging)
    model = click * rng.lognormal(0, ERROR, click.shape)
    decisions, rival = (_decided(log, policy, model) for policy in (challenger, champion))
    return judge_decisions(CONTRACT, decisions, rival, "the champion").verdict


def _logging(click: Floats) -> Floats:
    """40 % by chance, the others by a softmax of the ads' mean rates, shape (contexts, ads)."""
    softmax = np.exp(click.mean(axis=0) / 0.004)
    return np.tile(0.4 / ADS + 0.6 * softmax / softmax.sum(), (CONTEXTS, 1))


def _greedy(seen: Floats) -> Floats:
    is_best = np.arange(ADS) == seen.argmax(axis=1)[:, None]
    return np.where(is_best, 1 - EXPLORATION_SHARE, 0) + EXPLORATION_SHARE / ADS


def _value(policy: Floats, click: Floats) -> float:
    return float((policy * click).sum(axis=1).mean())


def _weakened(policy: Floats, click: Floats, value: float) -> Floats:
    """The policy with as many decisions by chance as bring it to this value."""
    chance = np.full_like(policy, 1 / ADS)

    def missing(share: float) -> float:
        return _value((1 - share) * policy + share * chance, click) - value

    if missing(0) <= 0:
        return policy
    share = float(brentq(missing, 0, 1))
    return (1 - share) * policy + share * chance


def _log(rng: np.random.Generator, click: Floats, logging: Floats) -> pd.DataFrame:
    context, time = rng.integers(CONTEXTS, size=ROWS), np.sort(rng.uniform(0, DAYS, ROWS))
    ad = (rng.random((ROWS, 1)) > logging.cumsum(axis=1)[context]).sum(axis=1).clip(max=ADS - 1)
    level = rng.lognormal(-(MOVEMENT**2) / 2, MOVEMENT, DAYS)[time.astype(int)]
    return pd.DataFrame(
        {
            "impression_id": np.arange(ROWS).astype(str),
            "event_timestamp": START + pd.to_timedelta(time, unit="D"),
            "user_id": rng.integers(USERS, size=ROWS).astype(str),
            "placement_id": "p",
            "context": context,
            "ad": ad,
            "ad_id": ad.astype(str),
            "propensity": logging[context, ad],
            "reward": (rng.random(ROWS) < level * click[context, ad]).astype(np.float64),
            "row_weight": 1.0,
            "unknown_share": 0.0,
        }
    )


def _decided(log: pd.DataFrame, policy: Floats, model: Floats) -> pd.DataFrame:
    context, ad = log["context"].to_numpy(), log["ad"].to_numpy()
    chosen = policy.argmax(axis=1)[context]
    return log.assign(
        chosen_ad_id=chosen.astype(str),
        target_probability=policy[context, ad],
        model_reward=model[context, ad],
        model_target_reward=(policy * model).sum(axis=1)[context],
    )


if __name__ == "__main__":
    main()
