"""Checks that the model serves as it was judged: the same scores in a fresh process, in time, on the same features."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd

from liftloop.contract.contract import Contract
from liftloop.contract.sections import GatePolicy
from liftloop.features.lookup import materialized_at, offline_features, online_features
from liftloop.features.skew import is_equal
from liftloop.gate.checks.fresh_process import ADS
from liftloop.gate.verdict import Check, CheckVerdict
from liftloop.model.model import Model
from liftloop.registry.versions import ModelVersion
from liftloop.storage.frozen import Frozen
from liftloop.storage.parquet import put_parquet_blob
from liftloop.storage.store import ObjectRef, Store
from liftloop.training.frame import read_partition

SEED = 7  # of the samples
SAMPLE_ROWS = 1_000
SAMPLE_KEYS = 200
MINIMUM_AGREEMENT = 0.95  # of a column's online values; the rest allows for rows that arrived late
TIME_LIMIT_SECONDS = 120

_SAME_SCORES = "all scores identical"


class FreshRun(Frozen):
    """The scores and latency that a fresh process reports for a version."""

    sample: ObjectRef
    scores: tuple[float, ...]
    latency_p99_milliseconds: float


def run_in_fresh_process(store: Store, version: ModelVersion, holdout: pd.DataFrame) -> FreshRun:
    """Load the version by hash in a new process, score a stored sample of the hold-out, and time a request.

    Raises:
        RuntimeError: the process failed; the message has its last line.
        subprocess.TimeoutExpired: it took longer than TIME_LIMIT_SECONDS.
    """
    sample = put_parquet_blob(store, holdout.sample(min(SAMPLE_ROWS, len(holdout)), random_state=SEED))
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


def check_same_scores(store: Store, model: Model, fresh: FreshRun) -> Check:
    """Fail unless the model's scores of the stored sample are the same in this process and in the fresh one."""
    here = model.predict(read_partition(store, fresh.sample))
    there = np.array(fresh.scores, dtype=np.float64)
    differing = int((here != there).sum())
    observed, artifacts = f"{differing:,} of {len(here):,} differ", (fresh.sample,)
    if differing:
        reason = f"A fresh process computes other scores; the largest difference is {np.abs(here - there).max():.2g}."
        return Check("fail", reason, observed, _SAME_SCORES, artifacts=artifacts)
    reason = f"A fresh process loads the model by hash and computes identical scores for {len(here):,} impressions."
    return Check("pass", reason, observed, _SAME_SCORES, artifacts=artifacts)


def check_latency(policy: GatePolicy, fresh: FreshRun) -> Check:
    """Fail if the p99 latency of a request in a fresh process is above the contract's limit."""
    taken, limit = fresh.latency_p99_milliseconds, policy.latency_p99_milliseconds
    reason = f"The p99 latency of a request with {ADS} ads is {taken:.1f} ms of CPU time in a fresh process."
    verdict: CheckVerdict = "fail" if taken > limit else "pass"
    return Check(
        verdict, reason, f"{taken:.1f} ms", f"at most {limit:g} ms", figures={"latency_p99_milliseconds": taken}
    )


def check_size(policy: GatePolicy, version: ModelVersion) -> Check:
    """Fail if the files that a process loads to serve the version are larger than the contract's limit."""
    size, limit = version.size_bytes, policy.model_bytes
    verdict: CheckVerdict = "fail" if size > limit else "pass"
    reason = f"Its {len(version.blobs)} files take {size / 1e6:,.2f} MB."
    return Check(verdict, reason, f"{size:,} bytes", f"at most {limit:,} bytes", figures={"model_bytes": size})


def check_online_features(store: Store, contract: Contract, holdout: pd.DataFrame) -> Check:
    """Fail if online and offline values differ for keys of the hold-out's last day, at the online store's own time.

    This finds a column that the online store lacks, but not one that is missing on both sides as it should be.
    """
    newest = holdout[holdout["event_timestamp"] > holdout["event_timestamp"].max() - pd.Timedelta(days=1)]
    rows = newest.sample(min(SAMPLE_KEYS, len(newest)), random_state=SEED)[list(contract.keys)]
    rows = rows.assign(event_timestamp=materialized_at(store, contract.source))
    online, offline = online_features(store, contract, rows), offline_features(store, contract, rows)
    agreement = is_equal(contract, online, offline).mean()  # by column
    short = agreement[agreement < MINIMUM_AGREEMENT]
    threshold = f"at least {MINIMUM_AGREEMENT:.0%} of each column"
    observed = f"{agreement.min():.1%} of {agreement.idxmin()}"
    if len(short):
        listed = ", ".join(f"{name} ({share:.0%})" for name, share in short.items())
        return Check(
            "fail", f"Online features are missing or differ from the offline ones: {listed}.", observed, threshold
        )
    return Check(
        "pass",
        f"All {len(agreement)} online features match the offline ones for the keys of {len(rows)} impressions.",
        observed,
        threshold,
    )
