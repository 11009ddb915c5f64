"""The registry of one source: model versions, and which of them is champion."""

from dataclasses import dataclass

from liftloop.registry.versions import ModelVersion, Pointer, RegistryError, verify_blobs
from liftloop.storage.keys import champion_key, training_key, version_key, versions_prefix
from liftloop.storage.store import ObjectRef, Store, concurrently


@dataclass(frozen=True)
class Registry:
    """Reads and writes the records of a source. Models are known by the hashes of their blobs and never loaded."""

    store: Store
    source: str

    def version(self, name: str) -> ModelVersion:
        """A version by its name.

        Raises:
            RegistryError: there is no such version.
        """
        found = ModelVersion.read(self.store, version_key(self.source, name)) if name.isalnum() else None
        if found is None:
            known = [each.version for each in self.versions()]
            raise RegistryError(f"{self.source} has no model version {name!r}; on record: {known}")
        return found

    def versions(self) -> list[ModelVersion]:
        """Every version on record, oldest first."""
        keys = [item.key for item in self.store.list(versions_prefix(self.source))]
        bodies = concurrently(self.store.get, keys)
        return sorted(map(ModelVersion.model_validate_json, bodies), key=lambda version: version.created_at)

    def newest(self) -> ModelVersion | None:
        """The version written last; None: there is none yet."""
        items = self.store.list(versions_prefix(self.source))
        newest = max(items, key=lambda item: (item.modified, item.key), default=None)
        return ModelVersion.read(self.store, newest.key) if newest else None

    def write(self, version: ModelVersion) -> ObjectRef:
        """Write a version's record, or replace it."""
        return version.write(self.store, version_key(self.source, version.version))

    def find_trained(self, training_fingerprint: str) -> ModelVersion | None:
        """The version that a training with these inputs resulted in, if it is on record and its blobs are intact."""
        try:
            version = self.version(self.store.get(training_key(self.source, training_fingerprint)).decode())
            verify_blobs(self.store, version)
        except (KeyError, RegistryError):
            return None
        return version

    def champion(self) -> Pointer | None:
        """The pointer to the champion; None before the first promotion."""
        return Pointer.read(self.store, champion_key(self.source))
