"""A trained model: booster, encoder and calibration, kept as two blobs that nothing has to unpickle."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd
import xgboost
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from liftloop.contract.sections import Reward
from liftloop.model.encoder import Encoder
from liftloop.registry.versions import ModelVersion, RegistryError, training_key, verify_blobs, write_version
from liftloop.stats.calibrate import Calibration
from liftloop.storage.runs import code_revision
from liftloop.storage.store import Store, fingerprint_of, sha256_of
from liftloop.training.frame import FrameIndex


class ModelSpec(BaseModel):
    """All of a model but its trees."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reward: Reward
    feature_service: str
    encoder: Encoder
    calibration: Calibration
    contract_sha256: str


@dataclass(frozen=True)
class Model:
    """Predicts the probability of a reward. The booster ends at its best round."""

    booster: xgboost.Booster
    spec: ModelSpec

    def predict(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """Calibrated P(reward), shape (rows,), from raw columns; unseen categories count as missing.

        Raises:
            ValueError: a column is missing.
        """
        return self.spec.calibration.apply(uncalibrated(self.booster, self.spec.encoder.encode(rows)))

    def to_blobs(self) -> tuple[bytes, bytes]:
        """The booster as UBJSON and the spec as JSON."""
        return bytes(self.booster.save_raw("ubj")), self.spec.model_dump_json(indent=1).encode()

    @classmethod
    def from_blobs(cls, booster: bytes, spec: bytes) -> Self:
        """The model that `to_blobs` wrote.

        Raises:
            ValueError: the spec is not one.
            xgboost.core.XGBoostError: the booster is not one.
        """
        return cls(xgboost.Booster(model_file=bytearray(booster)), ModelSpec.model_validate_json(spec))

    @cached_property
    def sha256(self) -> str:
        return fingerprint_of(*(sha256_of(blob) for blob in self.to_blobs()))

    @property
    def version(self) -> str:
        return self.sha256[:12]


def register(
    store: Store,
    source: str,
    model: Model,
    *,
    training_fingerprint: str,
    frame: FrameIndex,
    metrics: dict[str, Any],
    manifest: str | None = None,
) -> ModelVersion:
    """Store a model and put its version on record."""
    booster, spec = model.to_blobs()
    version = ModelVersion(
        version=model.version,
        source=source,
        reward=model.spec.reward,
        feature_service=model.spec.feature_service,
        training_fingerprint=training_fingerprint,
        frame_fingerprint=frame.fingerprint,
        frame=frame.partitions,
        booster=store.put_blob(booster, ".ubj"),
        spec=store.put_blob(spec, ".json"),
        metrics=metrics,
        created_at=datetime.now(UTC),
        code_revision=code_revision(),
        manifest=manifest,
    )
    write_version(store, version)
    store.put(training_key(source, training_fingerprint), version.version.encode())
    return version


def load_model(store: Store, version: ModelVersion) -> Model:
    """The model itself, its bytes checked against the record, and that against the version's name.

    Raises:
        RegistryError: a blob is missing, was changed, or is of another version.
    """
    if not fingerprint_of(*(blob.sha256 for blob in version.blobs)).startswith(version.version):
        raise RegistryError(f"{version.source} {version.version} cannot be loaded: its record names other blobs")
    return Model.from_blobs(*verify_blobs(store, version))


def uncalibrated(booster: xgboost.Booster, encoded: pd.DataFrame) -> NDArray[np.float32]:
    """What the trees alone predict, shape (rows,), for rows as the model's encoder returns them."""
    # From a plain array: ten times faster than through a data frame when rows are few.
    probabilities: NDArray[np.float32] = booster.inplace_predict(encoded.to_numpy(), validate_features=False)
    return probabilities
