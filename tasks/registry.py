"""Moves of the champion."""

from prefect import task

from liftloop import registry
from liftloop.partitions import references
from liftloop.runs import Step
from liftloop.store import open_store


@task
def promote(source: str, version: str, reason: str, expected_etag: str | None) -> Step:
    """Make a version champion, unless the champion was moved since its pointer had this etag."""
    store = open_store()
    pointer = registry.promote(store, source, version, reason, expected_etag)
    written = references(store, [registry.champion_key(source), registry.audit_key(source, pointer.number)])
    return Step(name="promote", outputs=written, metrics=pointer.model_dump(mode="json"))
