"""Promotion: compare-and-swap replaces the champion, and the audit trail records every move."""

from datetime import UTC, datetime

from liftloop.errors import UserError
from liftloop.registry.registry import Registry
from liftloop.registry.versions import Pointer, RegistryError, verify_blobs
from liftloop.storage.frozen import Frozen
from liftloop.storage.hashing import sha256_of
from liftloop.storage.keys import audit_key, audit_prefix, champion_key
from liftloop.storage.runs import Step, record
from liftloop.storage.store import SwapConflict, concurrently, references


class PromotionConflict(UserError):
    """Someone else moved the champion first; the message names the current champion."""


class AuditEntry(Frozen):
    """One move of the champion, chained to the previous entry by its hash."""

    pointer: Pointer
    previous_sha256: str | None


def promote(
    registry: Registry,
    version: str,
    reason: str,
    expected: str | None,
    run_id: str | None = None,
    overrides: str | None = None,
) -> Pointer:
    """Make a version champion if the champion is still the one that it was compared with.

    `expected` is the etag of that champion's pointer; None: there was none. Of several promotions that expect the same
    champion, exactly one succeeds.

    Raises:
        PromotionConflict: the champion was moved in the meantime.
        RegistryError: the version is not on record, or its blobs are missing or changed.
    """
    current = registry.champion()
    if current is not None and run_id is not None and (current.version, current.run_id) == (version, run_id):
        append_audit(registry, current)  # in case this run was interrupted after the swap
        record_move("promote", registry, current)
        return current
    if (current.etag if current else None) != expected:
        raise _conflict(registry.source, version, current)
    pointer = set_champion(registry, version, reason, current, overrides=overrides, run_id=run_id)
    record_move("promote", registry, pointer)
    return pointer


def set_champion(
    registry: Registry,
    version: str,
    reason: str,
    current: Pointer | None,
    *,
    restores: int | None = None,
    overrides: str | None = None,
    run_id: str | None = None,
) -> Pointer:
    """Replace the current champion by a version whose blobs are intact, and append the move to the audit trail.

    Raises:
        PromotionConflict: the champion is no longer `current`.
        RegistryError: the version is not on record, or its blobs are missing or changed.
    """
    verify_blobs(registry.store, registry.version(version))
    last = _last_audited(registry)
    if current is not None and current.number > last:
        append_audit(registry, current)  # the previous move was interrupted
    pointer = Pointer(
        number=1 + max(last, current.number if current else 0),
        version=version,
        since=datetime.now(UTC),
        reason=reason,
        previous=current.version if current else None,
        restores=restores,
        overrides=overrides,
        run_id=run_id,
    )
    try:
        moved = pointer.swap(registry.store, champion_key(registry.source), current.etag if current else None)
    except SwapConflict:
        raise _conflict(registry.source, version, registry.champion()) from None
    append_audit(registry, moved)
    return moved


def record_move(name: str, registry: Registry, pointer: Pointer) -> None:
    """Record a move of the champion as a step of the run; its inputs are the version's blobs."""
    keys = [champion_key(registry.source), audit_key(registry.source, pointer.number)]
    blobs = registry.version(pointer.version).blobs
    outputs, metrics = references(registry.store, keys), pointer.model_dump(mode="json")
    record(Step(name=name, inputs=blobs, outputs=outputs, metrics=metrics))


def read_audit(registry: Registry) -> list[AuditEntry]:
    """Every move of the champion, oldest first.

    Raises:
        RegistryError: an entry does not hold the hash of the previous one.
    """
    entries: list[AuditEntry] = []
    previous = None
    keys = [item.key for item in registry.store.list(audit_prefix(registry.source))]
    for key, body in zip(keys, concurrently(registry.store.get, keys), strict=True):
        entries.append(AuditEntry.model_validate_json(body))
        if entries[-1].previous_sha256 != previous:
            raise RegistryError(
                f"{registry.store.uri(key)} does not follow the previous entry: one of them was changed"
            )
        previous = sha256_of(body)
    return entries


def append_audit(registry: Registry, pointer: Pointer) -> None:
    """Append a move to the audit trail unless it is there already.

    Raises:
        RegistryError: the trail has another move in its place.
    """
    store, before = registry.store, audit_key(registry.source, pointer.number - 1)
    previous = sha256_of(store.get(before)) if pointer.number > 1 else None
    entry = AuditEntry(pointer=pointer.model_copy(update={"etag": None}), previous_sha256=previous)
    key = audit_key(registry.source, pointer.number)
    try:
        store.as_role("audit").swap(key, entry.model_dump_json(indent=1).encode(), expected_etag=None)
    except SwapConflict:
        if AuditEntry.model_validate_json(store.get(key)) != entry:
            raise RegistryError(f"{store.uri(key)} records another move than {pointer}") from None


def _conflict(source: str, version: str, champion: Pointer | None) -> PromotionConflict:
    since = f" since {champion.since:%Y-%m-%d %H:%M:%S} ({champion.reason})" if champion else ""
    return PromotionConflict(
        f"{version} did not become champion of {source}: the champion was moved in the meantime and now is"
        f" {champion.version if champion else 'none'}{since}. Look at it and decide again."
    )


def _last_audited(registry: Registry) -> int:
    """The number of the last move in the audit trail; 0: the trail is empty."""
    return max((int(item.key[-13:-5]) for item in registry.store.list(audit_prefix(registry.source))), default=0)
