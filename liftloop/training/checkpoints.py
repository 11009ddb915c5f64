"""Checkpoints of a fit in the store: a lost worker, or a lost run, costs only the last few seconds."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from time import monotonic
from typing import Self

import xgboost

from liftloop.settings import Settings
from liftloop.storage.hashing import fingerprint_of
from liftloop.storage.keys import checkpoints_prefix
from liftloop.storage.store import ObjectRef, Store
from liftloop.training.boosting import AfterRound, Parameters, Recipe

SECONDS_BETWEEN = 3.0  # by time and not by round, so that loss and overhead do not depend on how long a round takes


@dataclass(frozen=True)
class Checkpoints:
    """The boosters of one fit after some of its rounds, under a prefix that names everything the fit depends on.

    A fit is reproducible to the byte, so two runs that write the same round write the same object.
    """

    settings: Settings
    prefix: str

    @classmethod
    def of(cls, recipe: Recipe, parameters: Parameters, shards: Sequence[object]) -> Self:
        """Checkpoints of a fit with these parameters and this sharding."""
        options = json.dumps(recipe.train_options(parameters), sort_keys=True)
        encoder, rounds = recipe.encoder.model_dump_json(), recipe.maximum_rounds
        fingerprint = fingerprint_of(xgboost.__version__, encoder, options, rounds, *shards)
        return cls(recipe.settings, checkpoints_prefix(fingerprint))

    def newest(self) -> ObjectRef | None:
        store = self._store()
        keys = [item.key for item in store.list(self.prefix)]
        return store.find(max(keys)) if keys else None

    def read(self, ref: ObjectRef) -> bytes:
        return self._store().get_verified(ref)

    def writer(self, seconds_between: float) -> AfterRound:
        """A callback that writes a checkpoint at most every `seconds_between` seconds."""
        store, last_write = self._store(), monotonic()

        def write(booster: xgboost.Booster, _log_loss: float) -> None:
            nonlocal last_write
            if monotonic() - last_write >= seconds_between:
                store.put(f"{self.prefix}{booster.num_boosted_rounds():07}.ubj", bytes(booster.save_raw("ubj")))
                last_write = monotonic()

        return write

    def clear(self) -> None:
        store = self._store()
        store.delete([item.key for item in store.list(self.prefix)])

    def _store(self) -> Store:
        """A new store for each call: once used, a store cannot be pickled for a worker."""
        return Store(self.settings)


def rounds_done(checkpoint: ObjectRef | None) -> int:
    """The number of rounds in a checkpoint; 0 without one."""
    return int(PurePosixPath(checkpoint.key).stem) if checkpoint else 0
