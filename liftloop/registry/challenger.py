"""The challenger: the version to be tried against the champion on live traffic, where the log alone cannot tell."""

from datetime import UTC, datetime

from pydantic import AwareDatetime

from liftloop.registry.promotion import PromotionConflict
from liftloop.registry.registry import Registry
from liftloop.registry.versions import RegistryError, verify_blobs
from liftloop.storage.keys import challenger_key
from liftloop.storage.records import SharedRecord
from liftloop.storage.runs import Step, record
from liftloop.storage.store import SwapConflict, references


class Challenge(SharedRecord):
    """Which version is challenger. `champion_move` is the number of the champion's move that it challenges."""

    version: str
    champion_move: int
    since: AwareDatetime
    reason: str
    overrides: str | None = None  # what the gate had said against it
    run_id: str | None = None


def challenger(registry: Registry) -> Challenge | None:
    """Who challenges the champion there is. A challenge ends with any move of the champion, whoever follows."""
    found, holder = _last_challenge(registry), registry.champion()
    return found if found and holder and found.champion_move == holder.number else None


def challenge(
    registry: Registry, version: str, reason: str, run_id: str | None = None, overrides: str | None = None
) -> Challenge:
    """Make a version the challenger, in the place of the one before; nothing happens if it is already.

    Raises:
        RegistryError: there is no champion, or the version is; it is not on record, or its blobs are not as recorded.
        PromotionConflict: someone else named a challenger at the same time.
    """
    holder, before = registry.champion(), _last_challenge(registry)
    if holder is None or holder.version == version:
        standing = "is the champion" if holder else "has nobody to challenge: there is no champion"
        raise RegistryError(f"{version} of {registry.source} {standing}")
    if before and (before.version, before.champion_move) == (version, holder.number):
        _record(registry, before)
        return before
    verify_blobs(registry.store, registry.version(version))
    made = Challenge(
        version=version,
        champion_move=holder.number,
        since=datetime.now(UTC),
        reason=reason,
        overrides=overrides,
        run_id=run_id,
    )
    try:
        made = made.swap(registry.store, challenger_key(registry.source), before.etag if before else None)
    except SwapConflict:
        raise PromotionConflict(
            f"{version} did not become challenger of {registry.source}: another did meanwhile"
        ) from None
    _record(registry, made)
    return made


def _record(registry: Registry, made: Challenge) -> None:
    blobs = registry.version(made.version).blobs
    outputs = references(registry.store, [challenger_key(registry.source)])
    record(Step(name="challenge", inputs=blobs, outputs=outputs, metrics=made.model_dump(mode="json")))


def _last_challenge(registry: Registry) -> Challenge | None:
    return Challenge.read(registry.store, challenger_key(registry.source))
