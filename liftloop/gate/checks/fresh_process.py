"""Run as `python -m …fresh_process SOURCE VERSION KEY SHA256 BYTES`: scores a stored sample, as JSON.

A process started from the settings alone must compute exactly the scores of the gate's own process. It also reports
the latency of a request.
"""

import json
import sys
import time

import numpy as np
import pandas as pd

from liftloop.model.model import Model
from liftloop.registry.load import load_model
from liftloop.registry.registry import Registry
from liftloop.storage.store import ObjectRef, open_store
from liftloop.training.frame import read_partition

ADS = 50  # scored by one request
ROUNDS, REQUESTS = 5, 200
WARM_UP_REQUESTS = 20


def main(source: str, version: str, key: str, sha256: str, size_bytes: str) -> None:
    store = open_store()
    rows = read_partition(store, ObjectRef(key, sha256, int(size_bytes)))
    model = load_model(store, Registry(store, source).version(version))
    scores = model.predict(rows).tolist()  # JSON keeps every bit of a float64
    json.dump({"scores": scores, "latency_p99_milliseconds": latency_p99_milliseconds(model, rows)}, sys.stdout)


def latency_p99_milliseconds(model: Model, rows: pd.DataFrame) -> float:
    """p99 of a request for ADS scores, from raw columns, on one thread; the minimum of ROUNDS rounds of REQUESTS.

    In CPU time: on a shared machine, wall-clock time is mostly other processes' load. What remains of that load, such
    as a cold cache, only adds to CPU time, so the minimum is closest to the model's own latency.
    """
    model.booster.set_param({"nthread": 1})
    request = rows.iloc[np.arange(ADS) % len(rows)]
    _milliseconds(model, request, WARM_UP_REQUESTS)
    return min(float(np.quantile(_milliseconds(model, request, REQUESTS), 0.99)) for _ in range(ROUNDS))


def _milliseconds(model: Model, request: pd.DataFrame, times: int) -> list[float]:
    milliseconds = []
    for _ in range(times):
        started = time.process_time_ns()
        model.predict(request)
        milliseconds.append((time.process_time_ns() - started) / 1e6)
    return milliseconds


if __name__ == "__main__":
    main(*sys.argv[1:])
