"""Checks that what was judged here is what will serve: the same scores elsewhere, the same features online."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd

from liftloop.contract import Contract
from liftloop.features.lookup import historical_features, materialized_at, online_features
from liftloop.features.skew import is_equal
from liftloop.gate.evidence import keep_rows
from liftloop.gate.verdict import Finding
from liftloop.stack.addresses import variables
from liftloop.stats.columns import Floats
from liftloop.store import ObjectRef, Store
from liftloop.training.frame import read_partition
from liftloop.training.model import Model
from liftloop.training.registry import ModelVersion

SEED = 7  # of the samples
SAMPLE_ROWS = 1_000
SAMPLE_KEYS = 200
MINIMUM_AGREEMENT = 0.95  # of a column's online values; the rest leaves room for rows that arrived late
TIME_LIMIT_SECONDS = 120

_SAME_SCORES = "every score the same, bit by bit"


def scores_identically(store: Store, version: ModelVersion, model: Model, holdout: pd.DataFrame) -> Finding:
    """A fresh process loads the version by hash and scores a stored sample of the hold-out."""
    sample = keep_rows(store, holdout.sample(min(SAMPLE_ROWS, len(holdout)), random_state=SEED))
    here = model.predict(read_partition(store, sample))
    there = _scores_of_fresh_process(store, version, sample)
    differing = int((here != there).sum())
    observed = f"{differing:,} of {len(here):,} differ"
    if differing:
        reason = f"A fresh process comes to other scores, by up to {np.abs(here - there).max():.2g}."
        return Finding("fail", reason, observed, _SAME_SCORES, artifacts=(sample,))
    reason = f"A fresh process loads it by hash and gives {len(here):,} impressions the same scores."
    return Finding("pass", reason, observed, _SAME_SCORES, artifacts=(sample,))


def online_features_agree(store: Store, contract: Contract, holdout: pd.DataFrame) -> Finding:
    """Keys of the hold-out's last day, asked for at the online store's own time, must have their offline values.

    So a column that the online store lacks or leaves missing is found, and one that is rightly missing is not blamed.
    """
    newest = holdout[holdout["event_timestamp"] > holdout["event_timestamp"].max() - pd.Timedelta(days=1)]
    rows = newest.sample(min(SAMPLE_KEYS, len(newest)), random_state=SEED)[list(contract.keys)]
    rows = rows.assign(event_timestamp=materialized_at(store, contract.source))
    online, offline = online_features(store, contract, rows), historical_features(store, contract, rows)
    agreement = is_equal(contract, online, offline).mean()  # by column
    short = agreement[agreement < MINIMUM_AGREEMENT]
    threshold = f"at least {MINIMUM_AGREEMENT:.0%} of each column"
    observed = f"{agreement.min():.1%} of {agreement.idxmin()}"
    if len(short):
        listed = ", ".join(f"{name} ({share:.0%})" for name, share in short.items())
        return Finding(
            "fail", f"Online values are missing or not those of the hold-out: {listed}.", observed, threshold
        )
    return Finding(
        "pass", f"All {len(agreement)} columns are there for {len(rows)} impressions' keys.", observed, threshold
    )


def _scores_of_fresh_process(store: Store, version: ModelVersion, sample: ObjectRef) -> Floats:
    arguments = [version.source, version.version, sample.key, sample.sha256, str(sample.size_bytes)]
    answer = subprocess.run(
        [sys.executable, "-m", "liftloop.gate.fresh_process", *arguments],
        env=os.environ | variables(store.settings),
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_SECONDS,
    )
    if answer.returncode:
        raise RuntimeError(f"the fresh process failed: {answer.stderr.strip().rpartition(chr(10))[2]}")
    return np.array(json.loads(answer.stdout), dtype=np.float64)
