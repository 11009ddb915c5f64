"""Back to an earlier champion: at once, by compare-and-swap, with nothing trained or judged."""

from collections.abc import Sequence

from liftloop.registry.promotion import append_audit, read_audit, record_move, set_champion
from liftloop.registry.registry import Registry
from liftloop.registry.versions import Pointer, RegistryError


def rollback(registry: Registry, reason: str, to: str | None = None, run_id: str | None = None) -> Pointer:
    """Restore the champion before the one there is (`to` "previous" says the same), or the former champion `to`.

    Two rollbacks in a row go two champions back: none that was rolled back before is restored unless `to` names it.
    The same run rolls back once, however often it asks.

    Raises:
        RegistryError: there is nothing to go back to, or no reason given; `to` is champion or never was; its blobs are
            not as recorded.
        PromotionConflict: someone else moved the champion first.
    """
    if not reason.strip():
        raise RegistryError("a rollback needs a reason: it is kept in the audit trail")
    current = registry.champion()
    if current is None:
        raise RegistryError(f"{registry.source} has no champion yet: there is nothing to roll back")
    moves = _moves(registry, current)
    done = next((made for made in moves if run_id is not None and made.run_id == run_id), None)
    if done is not None:
        append_audit(registry, done)  # in case this run was interrupted between the two
        record_move("rollback", registry, done)
        return done
    if to is None or to == "previous":
        target = _before(moves, current)
        if target is None:
            raise RegistryError(
                f"there is no champion of {registry.source} before {current.version} to go back to"
                f"{_former(moves, current)}"
            )
    else:
        target = _named(registry, moves, current, to)
    made = set_champion(registry, target.version, reason, current, restores=_promotion(target), run_id=run_id)
    record_move("rollback", registry, made)
    return made


def previous(registry: Registry) -> str | None:
    """The version that a rollback would restore now."""
    current = registry.champion()
    target = _before(_moves(registry, current), current) if current else None
    return target.version if target else None


def withdrawal(registry: Registry, version: str) -> Pointer | None:
    """The rollback that ended this version's time as champion, unless it was made champion again since."""
    return _withdrawals(_moves(registry, registry.champion())).get(version)


def _moves(registry: Registry, current: Pointer | None) -> list[Pointer]:
    """Every move, oldest first and numbered from 1; the last one also where it was not written down yet."""
    moves = [entry.pointer for entry in read_audit(registry)]
    if current is None or current.number < len(moves):
        return moves
    if current.number == len(moves):
        if moves[-1] != current.model_copy(update={"etag": None}):
            raise RegistryError(
                f"the last entry of {registry.source}'s audit trail is not about its champion {current.version}"
            )
        return moves
    if current.number > len(moves) + 1:
        raise RegistryError(
            f"the audit trail of {registry.source} ends at {len(moves)}, its champion is move {current.number}:"
            " restore audit/"
        )
    return [*moves, current]


def _withdrawals(moves: Sequence[Pointer]) -> dict[str, Pointer]:
    found: dict[str, Pointer] = {}
    for made in moves:
        found.pop(made.version, None)
        if made.restores is not None and made.previous is not None:
            found[made.previous] = made
    return found


def _promotion(made: Pointer) -> int:
    """The number of the promotion that this move made or restored."""
    return made.number if made.restores is None else made.restores


def _before(moves: Sequence[Pointer], current: Pointer) -> Pointer | None:
    """The move to walk back to: past what was rolled back already."""
    withdrawn = _withdrawals(moves)
    number = _promotion(current)
    while number > 1:
        before = moves[number - 2]
        if before.version != current.version and before.version not in withdrawn:
            return before
        number = _promotion(before)
    return None


def _named(registry: Registry, moves: Sequence[Pointer], current: Pointer, to: str) -> Pointer:
    if to == current.version:
        raise RegistryError(
            f"{to} is the champion of {registry.source} already, since {current.since:%Y-%m-%d %H:%M:%S}"
        )
    registry.version(to)
    target = next((made for made in reversed(moves) if made.version == to), None)
    if target is None:
        raise RegistryError(
            f"{to} never was champion of {registry.source}: a rollback makes no new one{_former(moves, current)}"
        )
    return target


def _former(moves: Sequence[Pointer], current: Pointer) -> str:
    versions = dict.fromkeys(made.version for made in moves if made.version != current.version)
    return f"; former champions: {', '.join(versions)}" if versions else ""
