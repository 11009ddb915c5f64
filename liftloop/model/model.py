"""A trained model: boosters, encoders, calibrations and what impressions earn, stored as blobs without pickle."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd
import xgboost
from numpy.typing import NDArray

from liftloop.contract.sections import Reward
from liftloop.model.earnings import Earnings
from liftloop.model.encoder import Encoder, Matrix
from liftloop.stats.calibration import Calibration
from liftloop.storage.frozen import Frozen
from liftloop.storage.hashing import fingerprint_of, sha256_of


class ModelSpec(Frozen):
    """Everything in a model except its trees."""

    reward: Reward
    feature_service: str
    encoder: Encoder
    calibration: Calibration
    earnings: Earnings
    contract_sha256: str


@dataclass(frozen=True)
class Model:
    """Predicts the probability of a reward. The booster ends at its best round.

    `conversion` predicts P(conversion | click), where the contract's objective needs it.
    """

    booster: xgboost.Booster
    spec: ModelSpec
    conversion: "Model | None" = None

    def predict(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """Calibrated P(reward), shape (rows,), from raw columns; unseen categories count as missing.

        Raises:
            ValueError: a column is missing.
        """
        return self.predict_codes(self.spec.encoder.to_codes(rows))

    def by_time(self, rows: pd.DataFrame) -> Iterator[tuple["Model", pd.DataFrame]]:
        """All rows with this model; a version's `Timeline` has several."""
        yield self, rows

    def predict_codes(self, codes: Matrix) -> NDArray[np.float64]:
        """Calibrated P(reward), shape (rows,), from the result of the encoder's `to_codes`."""
        features = self.spec.encoder.to_features(codes)
        return self.spec.calibration.apply(predict_uncalibrated(self.booster, features))

    def to_blobs(self) -> tuple[bytes, ...]:
        """The booster as UBJSON and the spec as JSON; then those of the model of conversions."""
        own = bytes(self.booster.save_raw("ubj")), self.spec.model_dump_json(indent=1).encode()
        return own + (self.conversion.to_blobs() if self.conversion else ())

    @classmethod
    def from_blobs(cls, booster: bytes, spec: bytes, *conversion: bytes) -> Self:
        """The model that `to_blobs` serialized.

        Raises:
            ValueError: the spec is invalid.
            xgboost.core.XGBoostError: the booster is invalid.
        """
        of_conversion = cls.from_blobs(*conversion) if conversion else None
        return cls(xgboost.Booster(model_file=bytearray(booster)), ModelSpec.model_validate_json(spec), of_conversion)

    @cached_property
    def sha256(self) -> str:
        return fingerprint_of(*(sha256_of(blob) for blob in self.to_blobs()))

    @property
    def version(self) -> str:
        return self.sha256[:12]


def predict_uncalibrated(booster: xgboost.Booster, features: Matrix) -> NDArray[np.float32]:
    """The trees' prediction, shape (rows,), before calibration, for features from the model's encoder."""
    # From a plain array: for few rows ten times faster than from a data frame.
    probabilities: NDArray[np.float32] = booster.inplace_predict(features, validate_features=False)
    return probabilities
