"""Registering a model, and loading it with its bytes checked against the record."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle
from typing import Any

from liftloop.model.model import Model
from liftloop.project import find_project
from liftloop.registry.registry import Registry
from liftloop.registry.versions import FoldRecord, ModelVersion, RegistryError, verify_blobs
from liftloop.storage.hashing import fingerprint_of
from liftloop.storage.keys import training_key
from liftloop.storage.runs import code_revision
from liftloop.storage.store import ObjectRef, Store

SUFFIXES = (".ubj", ".json")  # of boosters and specs, which alternate


@dataclass(frozen=True)
class Fold:
    """A model that judges impressions with `since` <= event time < `until`; it was fitted on earlier ones."""

    since: datetime
    until: datetime
    model: Model


def register(
    registry: Registry,
    model: Model,
    *,
    training_fingerprint: str,
    frame_fingerprint: str,
    frame: tuple[ObjectRef, ...],
    trained_until: datetime,
    folds: Sequence[Fold] = (),
    metrics: dict[str, Any],
    manifest: str | None = None,
) -> ModelVersion:
    """Store a model and write its version's record, with the fingerprint and the partitions of its training frame.

    Args:
        trained_until: event times of the rows that it was fitted on are before this.
        folds: the models that judge it, by time; without one, only later rows judge it.
    """
    booster, spec, *conversion = _stored(registry.store, model)
    version = ModelVersion(
        version=model.version,
        source=registry.source,
        reward=model.spec.reward,
        feature_service=model.spec.feature_service,
        training_fingerprint=training_fingerprint,
        frame_fingerprint=frame_fingerprint,
        frame=frame,
        booster=booster,
        spec=spec,
        conversion=tuple(conversion),
        folds=tuple(FoldRecord(each.since, each.until, _stored(registry.store, each.model)) for each in folds),
        trained_until=trained_until,
        metrics=metrics,
        created_at=datetime.now(UTC),
        code_revision=code_revision(find_project().root),
        manifest=manifest,
    )
    registry.write(version)
    registry.store.put(training_key(registry.source, training_fingerprint), version.version.encode())
    return version


def _stored(store: Store, model: Model) -> tuple[ObjectRef, ...]:
    return tuple(store.put_blob(*blob) for blob in zip(model.to_blobs(), cycle(SUFFIXES)))


def load_fold(store: Store, version: ModelVersion, fold: FoldRecord) -> Model:
    """The model of one fold of a version, its bytes checked against the record.

    Raises:
        RegistryError: a blob is missing or changed.
    """
    return Model.from_blobs(*verify_blobs(store, version, fold))


def load_model(store: Store, version: ModelVersion) -> Model:
    """The model; its bytes are checked against the record, and the record against the version's name.

    Raises:
        RegistryError: a blob is missing, changed, or of another version.
    """
    if not fingerprint_of(*(blob.sha256 for blob in version.blobs)).startswith(version.version):
        raise RegistryError(f"{version.source} {version.version} cannot be loaded: its record names other blobs")
    return Model.from_blobs(*verify_blobs(store, version))
