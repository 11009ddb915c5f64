"""Model versions and the pointer to the one that is champion.

Knows models by the hashes of their blobs alone, so that nothing here has to load one.
"""

from datetime import datetime
from typing import Any

from liftloop.contract.sections import Reward
from liftloop.errors import UserError
from liftloop.storage.records import Record, SharedRecord
from liftloop.storage.store import ObjectRef, Store, concurrently


class RegistryError(UserError):
    """A version is not on record, or its blobs are not as recorded."""


class ModelVersion(Record):
    """One trained model: what it is, what it was made from, and later the gate's evidence on it."""

    version: str
    source: str
    reward: Reward
    feature_service: str
    training_fingerprint: str
    frame_fingerprint: str
    frame: tuple[ObjectRef, ...]
    booster: ObjectRef
    spec: ObjectRef
    metrics: dict[str, Any]
    created_at: datetime
    code_revision: str
    manifest: str | None = None  # of the run that trained it
    evidence: ObjectRef | None = None
    card: ObjectRef | None = None

    @property
    def blobs(self) -> tuple[ObjectRef, ObjectRef]:
        return self.booster, self.spec

    @property
    def size_bytes(self) -> int:
        """Of all that a process loads to serve it."""
        return sum(blob.size_bytes for blob in self.blobs)


class Pointer(SharedRecord):
    """Which version is champion. Its number counts the moves and names the entry of the audit trail.

    `restores` is the number of the move that a rollback goes back to; None: a promotion. `overrides` is what the gate
    had said against a version that a person promoted all the same. `run_id` is of the run that asked for the move:
    asked again by the same run, it is done.
    """

    number: int
    version: str
    since: datetime
    reason: str
    previous: str | None
    restores: int | None = None
    overrides: str | None = None
    run_id: str | None = None


def verify_blobs(store: Store, version: ModelVersion) -> tuple[bytes, bytes]:
    """Booster and spec, checked against the record.

    Raises:
        RegistryError: one is missing or was changed.
    """
    try:
        booster, spec = concurrently(store.get_verified, version.blobs)
    except (KeyError, ValueError) as error:
        raise RegistryError(f"{version.source} {version.version} cannot be loaded: {error}") from None
    return booster, spec
