"""Model versions and the pointer to the one that is champion.

Models are known by the hashes of their blobs, so no code here has to load one.
"""

from datetime import datetime
from typing import Any

from pydantic.dataclasses import dataclass

from liftloop.contract.sections import Reward
from liftloop.errors import UserError
from liftloop.storage.records import Record, SharedRecord
from liftloop.storage.store import ObjectRef, Store, concurrently


class RegistryError(UserError):
    """A version is not on record, its blobs are missing or changed, or the champion cannot be moved."""


@dataclass(frozen=True)
class FoldRecord:
    """The blobs of a model that judges impressions with `since` <= event time < `until`."""

    since: datetime
    until: datetime
    blobs: tuple[ObjectRef, ...]


class ModelVersion(Record):
    """One trained model: its blobs, its inputs, and, once judged, the gate's evidence."""

    version: str
    source: str
    reward: Reward
    feature_service: str
    training_fingerprint: str
    frame_fingerprint: str
    frame: tuple[ObjectRef, ...]
    booster: ObjectRef
    spec: ObjectRef
    conversion: tuple[ObjectRef, ...] = ()  # booster and spec of P(conversion | click), where there is one
    folds: tuple[FoldRecord, ...] = ()  # the models that judge it, by time
    trained_until: datetime  # event times of the rows it was fitted on are before this
    metrics: dict[str, Any]
    created_at: datetime
    code_revision: str
    manifest: str | None = None  # of the run that trained it
    evidence: ObjectRef | None = None
    card: ObjectRef | None = None

    @property
    def blobs(self) -> tuple[ObjectRef, ...]:
        return self.booster, self.spec, *self.conversion

    @property
    def fold_blobs(self) -> tuple[ObjectRef, ...]:
        return tuple(blob for fold in self.folds for blob in fold.blobs)

    @property
    def size_bytes(self) -> int:
        """Size of the blobs that a process loads to serve the model."""
        return sum(blob.size_bytes for blob in self.blobs)


class Pointer(SharedRecord):
    """Which version is champion. Its number counts the moves and names the entry of the audit trail.

    `restores` is the number of the move that a rollback restores; None: a promotion. `overrides` is the gate's verdict
    that a person overrode. `run_id` names the run that made the move: repeated by the same run, the move has no effect.
    """

    number: int
    version: str
    since: datetime
    reason: str
    previous: str | None
    restores: int | None = None
    overrides: str | None = None
    run_id: str | None = None


def verify_blobs(store: Store, version: ModelVersion, fold: FoldRecord | None = None) -> list[bytes]:
    """The blobs of a version, or of one of its folds, in their order, checked against the record.

    Raises:
        RegistryError: one is missing or changed.
    """
    try:
        return concurrently(store.get_verified, fold.blobs if fold else version.blobs)
    except (KeyError, ValueError) as error:
        raise RegistryError(f"{version.source} {version.version} cannot be loaded: {error}") from None
