"""What a fit has come to so far, in the store: a lost worker, or a lost run, costs the last few seconds only."""

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

SECONDS_BETWEEN = 3.0  # by the clock: what may be lost and what it costs are the same for short and long rounds


@dataclass(frozen=True)
class Checkpoints:
    """The boosters of one fit after some of its rounds, under what the fit depends on.

    A fit repeats itself to the byte, so two that write the same round write the same object.
    """

    settings: Settings
    prefix: str

    @classmethod
    def of(cls, recipe: Recipe, parameters: Parameters, shares: Sequence[object]) -> Self:
        """Those of a fit whose rows are dealt out so."""
        options = json.dumps(recipe.train_options(parameters), sort_keys=True)
        encoder, rounds = recipe.encoder.model_dump_json(), recipe.maximum_rounds
        fingerprint = fingerprint_of(xgboost.__version__, encoder, options, rounds, *shares)
        return cls(recipe.settings, checkpoints_prefix(fingerprint))

    def newest(self) -> ObjectRef | None:
        store = self._store()
        keys = [item.key for item in store.list(self.prefix)]
        return store.find(max(keys)) if keys else None

    def read(self, ref: ObjectRef) -> bytes:
        return self._store().get_verified(ref)

    def saver(self, seconds_between: float) -> AfterRound:
        """What saves the booster whenever the last time is so long ago."""
        store, saved = self._store(), monotonic()

        def save(booster: xgboost.Booster, _log_loss: float) -> None:
            nonlocal saved
            if monotonic() - saved >= seconds_between:
                store.put(f"{self.prefix}{booster.num_boosted_rounds():07}.ubj", bytes(booster.save_raw("ubj")))
                saved = monotonic()

        return save

    def clear(self) -> None:
        store = self._store()
        store.delete([item.key for item in store.list(self.prefix)])

    def _store(self) -> Store:
        """A new one each time: one that was used cannot travel to a worker."""
        return Store(self.settings)


def rounds_done(checkpoint: ObjectRef | None) -> int:
    """How many rounds there are in a checkpoint; none without one."""
    return int(PurePosixPath(checkpoint.key).stem) if checkpoint else 0
