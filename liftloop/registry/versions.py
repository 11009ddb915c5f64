"""Model versions and the pointer to the one that is champion.

Knows models by the hashes of their blobs alone, so that nothing here has to load one.
"""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from liftloop.contract.sections import Reward
from liftloop.errors import UserError
from liftloop.storage.keys import champion_key, training_key, version_key, versions_prefix
from liftloop.storage.records import Record, read_record
from liftloop.storage.store import ObjectRef, Store, concurrently


class RegistryError(UserError):
    """A version is not on record, or its blobs are not as recorded."""


class ModelVersion(BaseModel):
    """One trained model: what it is, what it was made from, and later the gate's evidence on it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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


class Pointer(Record):
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


def write_version(store: Store, version: ModelVersion) -> ObjectRef:
    """Put a version on record, or what has since been learned of it."""
    return store.put(version_key(version.source, version.version), version.model_dump_json(indent=1).encode())


def read_version(store: Store, source: str, version: str) -> ModelVersion:
    """A version by its name.

    Raises:
        RegistryError: there is none.
    """
    try:
        if not version.isalnum():  # it becomes part of a key
            raise KeyError(version)
        return ModelVersion.model_validate_json(store.get(version_key(source, version)))
    except KeyError:
        known = [each.version for each in list_versions(store, source)]
        raise RegistryError(f"{source} has no model version {version!r}; on record: {known}") from None


def list_versions(store: Store, source: str) -> list[ModelVersion]:
    """Every version on record, oldest first."""
    bodies = (store.get(item.key) for item in store.list(versions_prefix(source)))
    return sorted((ModelVersion.model_validate_json(body) for body in bodies), key=lambda each: each.created_at)


def newest_version(store: Store, source: str) -> ModelVersion | None:
    """The version that was written last; None before the first."""
    items = store.list(versions_prefix(source))
    newest = max(items, key=lambda item: (item.modified, item.key), default=None)
    return ModelVersion.model_validate_json(store.get(newest.key)) if newest else None


def find_trained(store: Store, source: str, training_fingerprint: str) -> ModelVersion | None:
    """The version that was made from just this, if it is on record and whole."""
    try:
        version = read_version(store, source, store.get(training_key(source, training_fingerprint)).decode())
        verify_blobs(store, version)
    except (KeyError, RegistryError):
        return None
    return version


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


def champion(store: Store, source: str) -> Pointer | None:
    """The pointer as it is now; None before the first promotion."""
    return read_record(store, champion_key(source), Pointer)
