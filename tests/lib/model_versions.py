"""Versions on record without a model in them, for the tests of what happens to versions."""

from datetime import UTC, datetime

from liftloop.registry.versions import ModelVersion, write_version
from liftloop.storage.store import Store


def put_version(store: Store, source: str, name: str) -> ModelVersion:
    """Put a version on record, of blobs that only have their hashes."""
    version = ModelVersion(
        version=name,
        source=source,
        reward="click",
        feature_service="service",
        training_fingerprint=name,
        frame_fingerprint=name,
        frame=(),
        booster=store.put_blob(f"{source} {name} trees".encode()),
        spec=store.put_blob(f"{source} {name} spec".encode()),
        metrics={},
        created_at=datetime.now(UTC),
        code_revision="abc",
    )
    write_version(store, version)
    return version
