"""The champion moves by compare-and-swap, and every move is on record in the audit trail."""

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from liftloop.errors import UserError
from liftloop.registry.versions import Pointer, RegistryError, champion, read_version, verify_blobs
from liftloop.storage.hashing import sha256_of
from liftloop.storage.keys import audit_key, audit_prefix, champion_key
from liftloop.storage.records import swap_record
from liftloop.storage.runs import Step, record
from liftloop.storage.store import Store, SwapConflict, concurrently, references


class PromotionConflict(UserError):
    """Someone else moved the champion first; the message names who holds it now."""


class AuditEntry(BaseModel):
    """One move of the champion, bound to the entry before by its hash."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pointer: Pointer
    previous_sha256: str | None


def promote(
    store: Store,
    source: str,
    version: str,
    reason: str,
    expected: str | None,
    run_id: str | None = None,
    overrides: str | None = None,
) -> Pointer:
    """Make a version champion, if the champion is still the one that it was compared with.

    `expected` is the etag of that champion's pointer, None if there was none. Of promotions that expect the same
    champion exactly one succeeds.

    Raises:
        PromotionConflict: the champion was moved since.
        RegistryError: the version is not on record, or its blobs are missing or changed.
    """
    current = champion(store, source)
    if current is not None and run_id is not None and (current.version, current.run_id) == (version, run_id):
        append_audit(store, source, current)  # in case this run was interrupted between the two
        record_move("promote", store, source, current)
        return current
    if (current.etag if current else None) != expected:
        raise _conflict(source, version, current)
    pointer = set_champion(store, source, version, reason, current, overrides=overrides, run_id=run_id)
    record_move("promote", store, source, pointer)
    return pointer


def set_champion(
    store: Store,
    source: str,
    version: str,
    reason: str,
    current: Pointer | None,
    *,
    restores: int | None = None,
    overrides: str | None = None,
    run_id: str | None = None,
) -> Pointer:
    """Point from the current champion to a version whose blobs are whole, and write that down.

    Raises:
        PromotionConflict: the champion is not `current` any more.
        RegistryError: the version is not on record, or its blobs are missing or changed.
    """
    verify_blobs(store, read_version(store, source, version))
    last = _last_audited(store, source)
    if current is not None and current.number > last:
        append_audit(store, source, current)  # the move before was interrupted
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
        moved = swap_record(store, champion_key(source), pointer, current.etag if current else None)
    except SwapConflict:
        raise _conflict(source, version, champion(store, source)) from None
    append_audit(store, source, moved)
    return moved


def record_move(name: str, store: Store, source: str, pointer: Pointer) -> None:
    """Record with the run that it moved the champion: it read the version's blobs."""
    keys = [champion_key(source), audit_key(source, pointer.number)]
    blobs = read_version(store, source, pointer.version).blobs
    outputs, metrics = references(store, keys), pointer.model_dump(mode="json")
    record(Step(name=name, inputs=blobs, outputs=outputs, metrics=metrics))


def read_audit(store: Store, source: str) -> list[AuditEntry]:
    """Every move of the champion, oldest first.

    Raises:
        RegistryError: an entry is not bound to the one before it.
    """
    entries: list[AuditEntry] = []
    previous = None
    keys = [item.key for item in store.list(audit_prefix(source))]
    for key, body in zip(keys, concurrently(store.get, keys), strict=True):
        entries.append(AuditEntry.model_validate_json(body))
        if entries[-1].previous_sha256 != previous:
            raise RegistryError(f"{store.uri(key)} does not follow the entry before it: one of them was changed")
        previous = sha256_of(body)
    return entries


def append_audit(store: Store, source: str, pointer: Pointer) -> None:
    """Append a move to the trail, unless it is there.

    Raises:
        RegistryError: another move is there.
    """
    previous = sha256_of(store.get(audit_key(source, pointer.number - 1))) if pointer.number > 1 else None
    entry = AuditEntry(pointer=pointer.model_copy(update={"etag": None}), previous_sha256=previous)
    key = audit_key(source, pointer.number)
    try:
        store.as_role("audit").swap(key, entry.model_dump_json(indent=1).encode(), expected_etag=None)
    except SwapConflict:
        if AuditEntry.model_validate_json(store.get(key)) != entry:
            raise RegistryError(f"{store.uri(key)} is about another move than {pointer}") from None


def _conflict(source: str, version: str, holder: Pointer | None) -> PromotionConflict:
    now = f"is {holder.version} since {holder.since:%Y-%m-%d %H:%M:%S} ({holder.reason})" if holder else "is vacant"
    return PromotionConflict(
        f"{version} did not become champion of {source}, which was moved in the meantime and now {now}."
        " Look at that one and decide anew."
    )


def _last_audited(store: Store, source: str) -> int:
    return max((int(item.key[-13:-5]) for item in store.list(audit_prefix(source))), default=0)
