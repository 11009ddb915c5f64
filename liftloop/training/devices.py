"""The device to train on: XGBoost asked for one that it lacks would only warn, and use the processor."""

# mypy: allow-untyped-calls

import json

import numpy as np
import xgboost

from liftloop.compute.compute import Compute, Workers
from liftloop.errors import UserError

_NO_DEVICE = (
    "LIFTLOOP_DEVICE={!r}: XGBoost finds no such device {}. Start it where there is one, or take the setting away to"
    " train on processors."
)


class NoDeviceError(UserError):
    """The device of the settings is not where the training would be; the message says what to do."""


def check_device(compute: Compute, device: str) -> None:
    """Nothing if everything that computes can train on it.

    Raises:
        NoDeviceError: it cannot.
    """
    if device == "cpu":
        return
    if isinstance(compute, Workers):
        found = {f"for the worker {address}": it for address, it in compute.client.run(has_device, device).items()}
    else:
        found = {"on this machine": has_device(device)}
    if lacking := [where for where, is_there in found.items() if not is_there]:
        raise NoDeviceError(_NO_DEVICE.format(device, " and ".join(lacking)))


def has_device(device: str) -> bool:
    """Whether XGBoost here trains on it."""
    with xgboost.config_context(verbosity=0):
        booster = xgboost.train({"device": device}, xgboost.DMatrix(np.eye(2), label=[0, 1]), num_boost_round=1)
    used: str = json.loads(booster.save_config())["learner"]["generic_param"]["device"]
    return used.startswith(device)
