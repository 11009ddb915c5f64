"""What the checks look at."""

import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from liftloop.competition import competing_ads
from liftloop.contract import Contract
from liftloop.errors import UserError
from liftloop.gate.baselines import ad_counts, mean_rate, per_ad, seen_keys, smoothed_rates
from liftloop.outcomes import Outcomes, Score
from liftloop.policy import decide
from liftloop.stats.columns import Floats
from liftloop.store import ObjectRef, Store
from liftloop.training.frame import TrainingFrame, open_frame
from liftloop.training.model import Model, load_model
from liftloop.training.registry import ModelVersion


class GateError(UserError):
    """There is nothing to judge a version by; the message says what is missing and how to get it."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """One version, the hold-out of the frame it was trained on, and its rivals; each computed when first asked for."""

    store: Store
    contract: Contract
    version: ModelVersion
    champion: ModelVersion | None  # None also where the version is the champion itself

    @cached_property
    def frame(self) -> TrainingFrame:
        frame = open_frame(self.store, self.contract.source, self.version.frame_fingerprint)
        if frame is None:
            raise GateError(f"the training frame of {self.version.version} is gone; run the train flow again")
        return frame

    @cached_property
    def holdout(self) -> pd.DataFrame:
        return self.frame.holdout

    @cached_property
    def outcomes(self) -> Outcomes:
        return Outcomes.of(self.contract, self.holdout, self.holdout[self.contract.reward].to_numpy(dtype=np.float64))

    @cached_property
    def model(self) -> Model:
        return load_model(self.store, self.version)

    @cached_property
    def probability(self) -> Floats:
        return self.model.predict(self.holdout)

    @cached_property
    def constant(self) -> Floats:
        return np.full(len(self.holdout), mean_rate(self.frame))

    @cached_property
    def ad_rate(self) -> Floats:
        rate = mean_rate(self.frame)
        return per_ad(self.holdout["ad_id"], smoothed_rates(ad_counts(self.contract, self.frame), rate), rate)

    @cached_property
    def champion_probability(self) -> Floats:
        assert self.champion is not None  # asked for only then
        return load_model(self.store, self.champion).predict(self.holdout)

    def decisions(self) -> pd.DataFrame:
        """What the version's policy decides on the hold-out: see `decide`."""
        ads = competing_ads(self.store, self.contract, seen_keys(self.frame))
        return decide(self.store, self.contract, self.model, ads, self.holdout)

    def scores(self) -> dict[str, Score]:
        """Scores on the hold-out, by who predicted."""
        predictions: dict[str, Callable[[], Floats]] = {
            "model": lambda: self.probability,
            "constant": lambda: self.constant,
            "per-ad rate": lambda: self.ad_rate,
        }
        if self.champion:
            predictions["champion"] = lambda: self.champion_probability
        scores = {}
        for name, predict in predictions.items():
            with suppress(Exception):  # who cannot be scored has failed a check, and that says why
                scores[name] = self.outcomes.score(predict())
        return scores


def keep_rows(store: Store, rows: pd.DataFrame) -> ObjectRef:
    """Store rows as a Parquet blob, for others to look into."""
    body = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), body, compression="zstd")
    return store.put_blob(body.getvalue(), ".parquet")
