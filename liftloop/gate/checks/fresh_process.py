"""Run as `python -m …fresh_process SOURCE VERSION KEY SHA256 BYTES`: scores a stored sample, as JSON.

A process that knows nothing but the settings must come to the very scores that the gate's own process came to, and
says how long a request takes it.
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
    """Of a request for ADS scores, from raw columns, on one thread; the least of ROUNDS, each of REQUESTS.

    In processor time, which waits for nobody: on a shared machine, wall-clock time is mostly that of others. What is
    left of them, such as a cold cache, only ever adds to it, so the least p99 is the nearest to the model's own.
    """
    model.booster.set_param({"nthread": 1})
    request = rows.iloc[np.arange(ADS) % len(rows)]
    _milliseconds(model, request, WARM_UP_REQUESTS)
    return min(float(np.quantile(_milliseconds(model, request, REQUESTS), 0.99)) for _ in range(ROUNDS))


def _milliseconds(model: Model, request: pd.DataFrame, times: int) -> list[float]:
    taken = []
    for _ in range(times):
        started = time.process_time_ns()
        model.predict(request)
        taken.append((time.process_time_ns() - started) / 1e6)
    return taken


if __name__ == "__main__":
    main(*sys.argv[1:])
