"""Checks that what was judged here is what will serve: the same scores elsewhere, in time, and the same features."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict

from liftloop.contract.contract import Contract
from liftloop.contract.sections import GatePolicy
from liftloop.features.lookup import historical_features, materialized_at, online_features
from liftloop.features.skew import is_equal
from liftloop.gate.checks.fresh_process import ADS
from liftloop.gate.verdict import CheckVerdict, Finding
from liftloop.model.model import Model
from liftloop.registry.versions import ModelVersion
from liftloop.storage.parquet import keep_rows
from liftloop.storage.store import ObjectRef, Store
from liftloop.training.frame import read_partition

SEED = 7  # of the samples
SAMPLE_ROWS = 1_000
SAMPLE_KEYS = 200
MINIMUM_AGREEMENT = 0.95  # of a column's online values; the rest leaves room for rows that arrived late
TIME_LIMIT_SECONDS = 120

_SAME_SCORES = "every score the same, bit by bit"


class FreshRun(BaseModel):
    """What a process that was started for it says of a version."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sample: ObjectRef
    scores: tuple[float, ...]
    latency_p99_milliseconds: float


def run_in_fresh_process(store: Store, version: ModelVersion, holdout: pd.DataFrame) -> FreshRun:
    """It loads the version by hash, scores a stored sample of the hold-out, and times a request.

    Raises:
        RuntimeError: it failed; with its last line.
        subprocess.TimeoutExpired: it took longer than TIME_LIMIT_SECONDS.
    """
    sample = keep_rows(store, holdout.sample(min(SAMPLE_ROWS, len(holdout)), random_state=SEED))
    arguments = [version.source, version.version, sample.key, sample.sha256, str(sample.size_bytes)]
    answer = subprocess.run(
        [sys.executable, "-m", "liftloop.gate.checks.fresh_process", *arguments],
        env=os.environ | store.settings.as_environment(),
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_SECONDS,
    )
    if answer.returncode:
        raise RuntimeError(f"the fresh process failed: {answer.stderr.strip().rpartition(chr(10))[2]}")
    return FreshRun(sample=sample, **json.loads(answer.stdout))


def scores_identically(store: Store, model: Model, fresh: FreshRun) -> Finding:
    """This process's model must give the stored sample the scores that the fresh one gave it."""
    here = model.predict(read_partition(store, fresh.sample))
    there = np.array(fresh.scores, dtype=np.float64)
    differing = int((here != there).sum())
    observed, artifacts = f"{differing:,} of {len(here):,} differ", (fresh.sample,)
    if differing:
        reason = f"A fresh process comes to other scores, by up to {np.abs(here - there).max():.2g}."
        return Finding("fail", reason, observed, _SAME_SCORES, artifacts=artifacts)
    reason = f"A fresh process loads it by hash and gives {len(here):,} impressions the same scores."
    return Finding("pass", reason, observed, _SAME_SCORES, artifacts=artifacts)


def is_fast(policy: GatePolicy, fresh: FreshRun) -> Finding:
    """The p99 of a request in a fresh process must keep to the contract's limit."""
    taken, limit = fresh.latency_p99_milliseconds, policy.latency_p99_milliseconds
    reason = (
        f"In a fresh process the slowest hundredth of requests for {ADS} ads takes {taken:.1f} ms of processor time."
    )
    verdict: CheckVerdict = "fail" if taken > limit else "pass"
    return Finding(
        verdict, reason, f"{taken:.1f} ms", f"at most {limit:g} ms", figures={"latency_p99_milliseconds": taken}
    )


def is_small(policy: GatePolicy, version: ModelVersion) -> Finding:
    """All that a process loads to serve the version must keep to the contract's limit."""
    size, limit = version.size_bytes, policy.model_bytes
    verdict: CheckVerdict = "fail" if size > limit else "pass"
    reason = f"Its {len(version.blobs)} files are {size / 1e6:,.2f} MB."
    return Finding(verdict, reason, f"{size:,} bytes", f"at most {limit:,} bytes", figures={"model_bytes": size})


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
