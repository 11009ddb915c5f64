"""Checks of the model's data: is it recent, and was all of it known before the outcome?"""

from collections.abc import Iterable
from typing import get_args

import numpy as np
import pandas as pd

from liftloop.contract.contract import Contract
from liftloop.contract.sections import FeatureKey
from liftloop.evaluation.rewards import RewardSample
from liftloop.features.definitions import entity_name
from liftloop.gate.checks.slices import MINIMUM_SLICE_REWARDS, listed
from liftloop.gate.verdict import Check, CheckVerdict
from liftloop.lake.lake import Lake
from liftloop.stats.leakage import SingleFeature, single_feature
from liftloop.storage.store import Store
from liftloop.training.frame import FrameIndex

MAX_ROWS = 200_000  # of the hold-out; a leak shows in a sample, too
SEED = 7  # of the sample
_KEYS = get_args(FeatureKey)
_WINDOWS = tuple(f"{entity_name(key)}_" for key in _KEYS)
_REMEDIES = {
    "context": "Context: {}; remove from `context` what is recorded after the choice.",
    "key": "Keys of the choice: {}; look at `columns`: an id that only rewarded impressions get leaks.",
    "window": "Windows of features: {}; look at `outcome_timestamp` and `outcome.delay`: are outcomes known so early?",
}


def data_lag(store: Store, contract: Contract, frame: FrameIndex) -> pd.Timedelta:
    """Time from the end of the hold-out to the newest matured impression in the lake; 0 if none is newer."""
    newest = Lake(store, contract).newest_event()
    if newest is None:
        return pd.Timedelta(0)
    return max(pd.Timestamp(newest) - contract.maturity - frame.parts["holdout"].end, pd.Timedelta(0))


def check_freshness(contract: Contract, behind: pd.Timedelta) -> Check:
    """Fail if impressions of more than the contract's `stale_after` have matured since the hold-out ended."""
    limit = contract.gate.stale_after
    reason = f"The lake holds {_words(behind)} of matured impressions that are newer than the hold-out."
    verdict: CheckVerdict = "fail" if behind > limit else "pass"
    return Check(verdict, reason, _words(behind), f"at most {_words(pd.Timedelta(limit))}")


def check_leakage(sample: RewardSample, rows: pd.DataFrame) -> Check:
    """Leakage alarm: fail if one column alone ranks the rewards better than the contract's `single_feature_auc`, or
    has a value that occurs only with rewards. Each such column is named.
    """
    limit = sample.policy.single_feature_auc
    threshold = f"AUC at most {limit:g}, and no value that occurs only with rewards"
    if sample.rewards < MINIMUM_SLICE_REWARDS:
        return Check("not_applicable", f"{sample.rewards} rewards are too few for this check.", threshold=threshold)
    found = {str(name): single_feature(sample.reward, rows[name]) for name in rows}
    ranked = sorted(found, key=lambda name: (bool(found[name].pure_rows), found[name].area_under_roc), reverse=True)
    best = max(found, key=lambda name: found[name].area_under_roc)
    leaks = {name: f"{name} ({_how(found[name], limit)})" for name in ranked if _how(found[name], limit)}
    observed = f"AUC {found[best].area_under_roc:.2f} of {best}"
    figures = {"single_feature_auc": found[best].area_under_roc}
    if leaks:
        named = f"so well that they can hardly be known before it: {listed([*leaks.values()])}."
        reason = " ".join([f"These columns predict the outcome {named}", *_remedies(leaks)])
        return Check("fail", reason, observed, threshold, figures=figures)
    return Check(
        "pass",
        f"None of {len(found)} columns predicts the outcome too well on its own.",
        observed,
        threshold,
        figures=figures,
    )


def _remedies(columns: Iterable[str]) -> list[str]:
    """A sentence on each kind of suspects, with the contract's key to change."""
    suspects: dict[str, list[str]] = {remedy: [] for remedy in _REMEDIES.values()}
    for name in columns:
        is_window = name not in _KEYS and name.startswith(_WINDOWS)
        suspects[_REMEDIES["window" if is_window else "key" if name in _KEYS else "context"]].append(name)
    return [remedy.format(listed(names)) for remedy, names in suspects.items() if names]


def sampled(sample: RewardSample, rows: pd.DataFrame) -> tuple[RewardSample, pd.DataFrame]:
    """At most MAX_ROWS rows; always the same sample."""
    if len(rows) <= MAX_ROWS:
        return sample, rows
    is_selected = np.random.default_rng(SEED).permutation(len(rows)) < MAX_ROWS
    return sample.where(is_selected), rows[is_selected]


def _how(found: SingleFeature, limit: float) -> str:
    """Why a column may leak the outcome; empty if it does not."""
    if found.pure_rows:
        return f"{found.pure_rows:,} impressions share one value, all with a reward"
    return f"AUC {found.area_under_roc:.2f} alone" if found.area_under_roc > limit else ""


def _words(span: pd.Timedelta) -> str:
    return f"{span / pd.Timedelta(hours=1):,.1f} hours"
