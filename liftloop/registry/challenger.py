"""The challenger: the version to try against the champion on live traffic when the log alone cannot decide."""

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
    """Which version is challenger. `champion_move` is the number of the move that made its opponent champion."""

    version: str
    champion_move: int
    since: AwareDatetime
    reason: str
    overrides: str | None = None  # the gate's verdict that a person overrode
    run_id: str | None = None


def challenger(registry: Registry) -> Challenge | None:
    """The current challenge; None: there is none. Any move of the champion ends a challenge."""
    last, champion = _last_challenge(registry), registry.champion()
    return last if last and champion and last.champion_move == champion.number else None


def challenge(
    registry: Registry, version: str, reason: str, run_id: str | None = None, overrides: str | None = None
) -> Challenge:
    """Make a version the challenger in place of the last one; no change if it is the challenger already.

    Raises:
        RegistryError: there is no champion; the version is champion or not on record; its blobs are missing or changed.
        PromotionConflict: someone else named a challenger at the same time.
    """
    champion, last = registry.champion(), _last_challenge(registry)
    if champion is None or champion.version == version:
        problem = "is the champion: name another version" if champion else "has no champion to challenge: promote it"
        raise RegistryError(f"{version} of {registry.source} {problem}")
    if last and (last.version, last.champion_move) == (version, champion.number):
        _record(registry, last)
        return last
    verify_blobs(registry.store, registry.version(version))
    new = Challenge(
        version=version,
        champion_move=champion.number,
        since=datetime.now(UTC),
        reason=reason,
        overrides=overrides,
        run_id=run_id,
    )
    try:
        new = new.swap(registry.store, challenger_key(registry.source), last.etag if last else None)
    except SwapConflict:
        raise PromotionConflict(
            f"{version} did not become challenger of {registry.source}: another version did in the meantime"
        ) from None
    _record(registry, new)
    return new


def _record(registry: Registry, new: Challenge) -> None:
    blobs = registry.version(new.version).blobs
    outputs = references(registry.store, [challenger_key(registry.source)])
    record(Step(name="challenge", inputs=blobs, outputs=outputs, metrics=new.model_dump(mode="json")))


def _last_challenge(registry: Registry) -> Challenge | None:
    return Challenge.read(registry.store, challenger_key(registry.source))
