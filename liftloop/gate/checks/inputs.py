"""Checks of what the model was made from: is it of today, and could all of it be known before the outcome?"""

import numpy as np
import pandas as pd

from liftloop.contract.contract import Contract
from liftloop.evaluation.rewards import Outcomes
from liftloop.gate.checks.slices import MINIMUM_SLICE_REWARDS, listed
from liftloop.gate.verdict import CheckVerdict, Finding
from liftloop.lake.impressions import newest_event
from liftloop.stats.leakage import SingleFeature, single_feature
from liftloop.storage.store import Store
from liftloop.training.frame import FrameIndex

MAX_ROWS = 200_000  # of the hold-out, a sample of more: what leaks is seen in few
SEED = 7  # of that sample


def lag(store: Store, contract: Contract, frame: FrameIndex) -> pd.Timedelta:
    """How far the matured impressions of the lake reach beyond the newest one that the model was judged by."""
    newest = newest_event(store, contract.source)
    if newest is None:
        return pd.Timedelta(0)
    return max(pd.Timestamp(newest) - contract.maturity - frame.parts["holdout"].end, pd.Timedelta(0))


def is_of_today(contract: Contract, behind: pd.Timedelta) -> Finding:
    """Fail if impressions of more than the contract's `stale_after` have matured since the hold-out ended."""
    limit = contract.gate.stale_after
    reason = f"Matured impressions of {_words(behind)} are newer than all that it was trained and judged on."
    verdict: CheckVerdict = "fail" if behind > limit else "pass"
    return Finding(verdict, reason, _words(behind), f"at most {_words(pd.Timedelta(limit))}")


def known_before_the_outcome(outcomes: Outcomes, rows: pd.DataFrame) -> Finding:
    """Leakage alarm: fail if one column alone ranks the rewards better than the contract's `single_feature_auc`, or
    has a value that comes with rewards alone. Each such column is named.
    """
    limit = outcomes.policy.single_feature_auc
    threshold = f"AUC at most {limit:g}, and no value with rewards alone"
    if outcomes.rewards < MINIMUM_SLICE_REWARDS:
        return Finding("not_applicable", f"{outcomes.rewards} rewards are too few to tell.", threshold=threshold)
    found = {name: single_feature(outcomes.reward, rows[name]) for name in rows}
    best = max(found, key=lambda name: found[name].area_under_roc)
    leaks = [f"{name} ({_how(each, limit)})" for name, each in found.items() if _how(each, limit)]
    observed = f"AUC {found[best].area_under_roc:.2f} of {best}"
    figures = {"single_feature_auc": found[best].area_under_roc}
    if leaks:
        reason = f"What these columns hold can hardly have been known before the outcome: {listed(leaks)}."
        return Finding("fail", reason, observed, threshold, figures=figures)
    return Finding(
        "pass", f"None of {len(found)} columns predicts too well alone.", observed, threshold, figures=figures
    )


def sampled(outcomes: Outcomes, rows: pd.DataFrame) -> tuple[Outcomes, pd.DataFrame]:
    """No more rows than the alarm needs."""
    if len(rows) <= MAX_ROWS:
        return outcomes, rows
    is_kept = np.random.default_rng(SEED).permutation(len(rows)) < MAX_ROWS
    return outcomes.where(is_kept), rows[is_kept]


def _how(found: SingleFeature, limit: float) -> str:
    """How a column gives itself away; nothing if it does not."""
    if found.pure_rows:
        return f"{found.pure_rows:,} impressions with one value, all rewarded"
    return f"AUC {found.area_under_roc:.2f} alone" if found.area_under_roc > limit else ""


def _words(span: pd.Timedelta) -> str:
    return f"{span / pd.Timedelta(hours=1):,.1f} hours"
