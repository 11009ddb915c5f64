"""Model versions, the champion pointer that moves by compare-and-swap, and the audit trail of its moves."""

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from liftloop.contract import Reward
from liftloop.errors import UserError
from liftloop.runs import code_revision
from liftloop.store import ObjectRef, Store, SwapConflict, sha256_of
from liftloop.training.frame import FrameIndex
from liftloop.training.model import Model


class RegistryError(UserError):
    """A version is not on record, or its blobs are not as recorded."""


class PromotionConflict(UserError):
    """Someone else moved the champion first; the message names who holds it now."""


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelVersion(_Frozen):
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
    evidence: ObjectRef | None = None

    @property
    def blobs(self) -> tuple[ObjectRef, ObjectRef]:
        return self.booster, self.spec


class Pointer(_Frozen):
    """Which version is champion. Its number counts the moves and names the entry of the audit trail."""

    number: int
    version: str
    since: datetime
    reason: str
    previous: str | None
    etag: str | None = Field(default=None, exclude=True)  # of the object it was read from: what `promote` expects


class AuditEntry(_Frozen):
    """One move of the champion, bound to the entry before by its hash."""

    pointer: Pointer
    previous_sha256: str | None


def register(
    store: Store, source: str, model: Model, *, training_fingerprint: str, frame: FrameIndex, metrics: dict[str, Any]
) -> ModelVersion:
    """Store a model and put its version on record."""
    booster, spec = model.to_blobs()
    version = ModelVersion(
        version=model.version,
        source=source,
        reward=model.spec.reward,
        feature_service=model.spec.feature_service,
        training_fingerprint=training_fingerprint,
        frame_fingerprint=frame.fingerprint,
        frame=frame.partitions,
        booster=store.put_blob(booster, ".ubj"),
        spec=store.put_blob(spec, ".json"),
        metrics=metrics,
        created_at=datetime.now(UTC),
        code_revision=code_revision(),
    )
    write_version(store, version)
    store.put(_training_key(source, training_fingerprint), version.version.encode())
    return version


def write_version(store: Store, version: ModelVersion) -> ObjectRef:
    """Put a version on record, or what has since been learned of it."""
    return store.put(version_key(version.source, version.version), version.model_dump_json(indent=1).encode())


def read_version(store: Store, source: str, version: str) -> ModelVersion:
    """A version by its name.

    Raises:
        RegistryError: there is none.
    """
    try:
        return ModelVersion.model_validate_json(store.get(version_key(source, version)))
    except KeyError:
        known = [each.version for each in list_versions(store, source)]
        raise RegistryError(f"{source} has no model version {version!r}; on record: {known}") from None


def list_versions(store: Store, source: str) -> list[ModelVersion]:
    """Every version on record, oldest first."""
    bodies = (store.get(item.key) for item in store.list(_versions_prefix(source)))
    return sorted((ModelVersion.model_validate_json(body) for body in bodies), key=lambda each: each.created_at)


def newest_version(store: Store, source: str) -> ModelVersion | None:
    """The version that was written last; None before the first."""
    items = store.list(_versions_prefix(source))
    newest = max(items, key=lambda item: (item.modified, item.key), default=None)
    return ModelVersion.model_validate_json(store.get(newest.key)) if newest else None


def find_trained(store: Store, source: str, training_fingerprint: str) -> ModelVersion | None:
    """The version that was made from just this, if it is on record and whole."""
    try:
        version = read_version(store, source, store.get(_training_key(source, training_fingerprint)).decode())
        load_model(store, version)
    except (KeyError, RegistryError):
        return None
    return version


def load_model(store: Store, version: ModelVersion) -> Model:
    """The model itself, its bytes checked against the record.

    Raises:
        RegistryError: a blob is missing or was changed.
    """
    try:
        return Model.from_blobs(*(store.get_verified(ref) for ref in version.blobs))
    except (KeyError, ValueError) as error:
        raise RegistryError(f"{version.source} {version.version} cannot be loaded: {error}") from None


def champion(store: Store, source: str) -> Pointer | None:
    """The pointer as it is now; None before the first promotion."""
    try:
        body, etag = store.get_version(champion_key(source))
    except KeyError:
        return None
    return Pointer.model_validate_json(body).model_copy(update={"etag": etag})


def promote(store: Store, source: str, version: str, reason: str, expected: str | None) -> Pointer:
    """Make a version champion, if the champion is still the one that it was compared with.

    `expected` is the etag of that champion's pointer, None if there was none. Of promotions that expect the same
    champion exactly one succeeds.

    Raises:
        PromotionConflict: the champion was moved since.
        RegistryError: the version is not on record, or its blobs are missing or changed.
    """
    load_model(store, read_version(store, source, version))
    current = champion(store, source)
    if (current.etag if current else None) != expected:
        raise _conflict(source, version, current)
    if current is not None:
        _audit(store, source, current)  # in case the promotion before was interrupted
    pointer = Pointer(
        number=1 + _last_audited(store, source),
        version=version,
        since=datetime.now(UTC),
        reason=reason,
        previous=current.version if current else None,
    )
    moved = _move(store, source, pointer, expected)
    _audit(store, source, moved)
    return moved


def read_audit(store: Store, source: str) -> list[AuditEntry]:
    """Every move of the champion, oldest first.

    Raises:
        RegistryError: an entry is not bound to the one before it.
    """
    entries: list[AuditEntry] = []
    previous = None
    for item in store.list(f"audit/{source}/"):
        body = store.get(item.key)
        entries.append(AuditEntry.model_validate_json(body))
        if entries[-1].previous_sha256 != previous:
            raise RegistryError(f"{store.uri(item.key)} does not follow the entry before it: one of them was changed")
        previous = sha256_of(body)
    return entries


def champion_key(source: str) -> str:
    return f"registry/{source}/champion.json"


def version_key(source: str, version: str) -> str:
    return f"{_versions_prefix(source)}{version}.json"


def card_key(version: ModelVersion) -> str:
    """Where the gate puts the version's model card."""
    return f"reports/{version.source}/models/{version.version}.html"


def audit_key(source: str, number: int) -> str:
    return f"audit/{source}/{number:08}.json"


def _versions_prefix(source: str) -> str:
    return f"registry/{source}/versions/"


def _training_key(source: str, fingerprint: str) -> str:
    return f"registry/{source}/trainings/{fingerprint}"


def _move(store: Store, source: str, pointer: Pointer, expected: str | None) -> Pointer:
    try:
        etag = store.swap(champion_key(source), pointer.model_dump_json(indent=1).encode(), expected_etag=expected)
        return pointer.model_copy(update={"etag": etag})
    except SwapConflict:
        holder = champion(store, source)
    # A write whose answer was lost is sent again, and then conflicts with itself.
    if holder is not None and holder.model_dump() == pointer.model_dump():
        return holder
    raise _conflict(source, pointer.version, holder)


def _conflict(source: str, version: str, holder: Pointer | None) -> PromotionConflict:
    now = f"is {holder.version} since {holder.since:%Y-%m-%d %H:%M:%S} ({holder.reason})" if holder else "is vacant"
    return PromotionConflict(
        f"{version} was not promoted: the champion of {source} was moved in the meantime and now {now}."
        " Compare with it and promote again."
    )


def _last_audited(store: Store, source: str) -> int:
    return max((int(item.key[-13:-5]) for item in store.list(f"audit/{source}/")), default=0)


def _audit(store: Store, source: str, pointer: Pointer) -> None:
    """Append a move to the trail, unless it is there."""
    previous = sha256_of(store.get(audit_key(source, pointer.number - 1))) if pointer.number > 1 else None
    entry = AuditEntry(pointer=pointer, previous_sha256=previous).model_dump_json(indent=1).encode()
    key = audit_key(source, pointer.number)
    try:
        store.swap(key, entry, expected_etag=None)
    except SwapConflict:
        if store.get(key) != entry:
            raise RegistryError(f"{store.uri(key)} is about another promotion than {pointer}") from None
