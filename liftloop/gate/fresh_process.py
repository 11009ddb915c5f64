"""Run as `python -m liftloop.gate.fresh_process SOURCE VERSION KEY SHA256 BYTES`: scores a stored sample, as JSON.

A process that knows nothing but the settings must come to the very scores that the gate's own process came to.
"""

import json
import sys

from liftloop.store import ObjectRef, open_store
from liftloop.training.frame import read_partition
from liftloop.training.model import load_model
from liftloop.training.registry import read_version


def main(source: str, version: str, key: str, sha256: str, size_bytes: str) -> None:
    store = open_store()
    rows = read_partition(store, ObjectRef(key, sha256, int(size_bytes)))
    model = load_model(store, read_version(store, source, version))
    json.dump(model.predict(rows).tolist(), sys.stdout)  # JSON keeps every bit of a float64


if __name__ == "__main__":
    main(*sys.argv[1:])
