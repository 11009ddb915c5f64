"""The device to train on. XGBoost itself only warns about a missing device, and falls back to the CPU."""

# mypy: allow-untyped-calls

import json

import numpy as np
import xgboost

from liftloop.compute.compute import Compute, Workers
from liftloop.errors import UserError

_NO_DEVICE = (
    "LIFTLOOP_DEVICE={!r}: XGBoost finds no such device {}. Run on machines that have one, or remove the setting to"
    " train on CPUs."
)


class NoDeviceError(UserError):
    """The device in the settings is not available where the training runs; the message says what to do."""


def require_device(compute: Compute, device: str) -> None:
    """Require that every process of `compute` can train on the device.

    Raises:
        NoDeviceError: one cannot.
    """
    if device == "cpu":
        return
    if isinstance(compute, Workers):
        found = {f"on the worker {address}": it for address, it in compute.client.run(has_device, device).items()}
    else:
        found = {"on this machine": has_device(device)}
    if lacking := [where for where, is_there in found.items() if not is_there]:
        raise NoDeviceError(_NO_DEVICE.format(device, " and ".join(lacking)))


def has_device(device: str) -> bool:
    """Whether XGBoost in this process trains on the device."""
    with xgboost.config_context(verbosity=0):
        booster = xgboost.train({"device": device}, xgboost.DMatrix(np.eye(2), label=[0, 1]), num_boost_round=1)
    used: str = json.loads(booster.save_config())["learner"]["generic_param"]["device"]
    return used.startswith(device)
