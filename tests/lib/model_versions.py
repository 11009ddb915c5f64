"""Versions on record without a model in them, for the tests of what happens to versions."""

from datetime import UTC, datetime

from liftloop.gate.verdict import Check, CheckVerdict, Verdict
from liftloop.registry.promotion import promote
from liftloop.registry.registry import Registry
from liftloop.registry.versions import ModelVersion, Pointer
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
        trained_until=datetime.now(UTC),
        metrics={},
        created_at=datetime.now(UTC),
        code_revision="abc",
    )
    Registry(store, version.source).write(version)
    return version


def crown_in_turn(store: Store, source: str, *names: str) -> Pointer:
    """Put versions on record and promote each; returns what the last is champion by."""
    for name in names:
        put_version(store, source, name)
        holder = Registry(store, source).champion()
        holder = promote(Registry(store, source), name, f"{name} is better", holder.etag if holder else None)
    assert holder is not None
    return holder


def put_judged(store: Store, source: str, name: str, found: CheckVerdict) -> ModelVersion:
    """A version on record whose only check came out so."""
    check = Check(found, "It is as it is.", "2", "1", id="accuracy", title="accuracy")
    verdict = Verdict(
        source=source, version=name, champion="a", fingerprint="f", rows=9, rewards=3, scores={}, checks=(check,)
    )
    evidence = store.put_blob(verdict.model_dump_json().encode(), ".json")
    version = put_version(store, source, name).model_copy(update={"evidence": evidence})
    Registry(store, version.source).write(version)
    return version
