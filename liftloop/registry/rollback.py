"""Rollback to an earlier champion: at once, by compare-and-swap, without training or gate."""

from collections.abc import Sequence

from liftloop.registry.promotion import append_audit, read_audit, record_move, set_champion
from liftloop.registry.registry import Registry
from liftloop.registry.versions import Pointer, RegistryError


def rollback(registry: Registry, reason: str, to: str | None = None, run_id: str | None = None) -> Pointer:
    """Restore the previous champion (`to` is None or "previous"), or the former champion `to`.

    Two rollbacks in a row go two champions back: a version that was rolled back is restored only if `to` names it.
    Repeated by the same run, it has no further effect.

    Raises:
        RegistryError: there is nothing to roll back to, or no reason; `to` is champion or never was; its blobs are
            missing or changed.
        PromotionConflict: someone else moved the champion first.
    """
    if not reason.strip():
        raise RegistryError("a rollback needs a reason: it is recorded in the audit trail")
    current = registry.champion()
    if current is None:
        raise RegistryError(f"{registry.source} has no champion yet: there is nothing to roll back")
    moves = _moves(registry, current)
    done = next((move for move in moves if run_id is not None and move.run_id == run_id), None)
    if done is not None:
        append_audit(registry, done)  # in case this run was interrupted after the swap
        record_move("rollback", registry, done)
        return done
    if to is None or to == "previous":
        target = _before(moves, current)
        if target is None:
            raise RegistryError(
                f"there is no champion of {registry.source} before {current.version} to roll back to"
                f"{_former(moves, current)}"
            )
    else:
        target = _named(registry, moves, current, to)
    move = set_champion(registry, target.version, reason, current, restores=_promotion(target), run_id=run_id)
    record_move("rollback", registry, move)
    return move


def previous(registry: Registry) -> str | None:
    """The version that a rollback would restore now; None: there is none."""
    current = registry.champion()
    target = _before(_moves(registry, current), current) if current else None
    return target.version if target else None


def withdrawal(registry: Registry, version: str) -> Pointer | None:
    """The rollback that took this version out of service; None: there is none, or it was made champion again since."""
    return _withdrawals(_moves(registry, registry.champion())).get(version)


def _moves(registry: Registry, current: Pointer | None) -> list[Pointer]:
    """Every move, oldest first and numbered from 1, including a last move that is not in the audit trail yet."""
    moves = [entry.pointer for entry in read_audit(registry)]
    if current is None or current.number < len(moves):
        return moves
    if current.number == len(moves):
        if moves[-1] != current.model_copy(update={"etag": None}):
            raise RegistryError(
                f"the last entry of the audit trail of {registry.source} does not match the champion {current.version}:"
                " restore audit/"
            )
        return moves
    if current.number > len(moves) + 1:
        raise RegistryError(
            f"the audit trail of {registry.source} ends at move {len(moves)}, but the champion is from move"
            f" {current.number}: restore audit/"
        )
    return [*moves, current]


def _withdrawals(moves: Sequence[Pointer]) -> dict[str, Pointer]:
    """The rollback that took each version out of service, by version."""
    found: dict[str, Pointer] = {}
    for move in moves:
        found.pop(move.version, None)
        if move.restores is not None and move.previous is not None:
            found[move.previous] = move
    return found


def _promotion(move: Pointer) -> int:
    """The number of the promotion that this move is, or that it restores."""
    return move.number if move.restores is None else move.restores


def _before(moves: Sequence[Pointer], current: Pointer) -> Pointer | None:
    """The move to roll back to, skipping versions that were rolled back; None: there is none."""
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
    target = next((move for move in reversed(moves) if move.version == to), None)
    if target is None:
        raise RegistryError(
            f"{to} was never champion of {registry.source}: use `liftloop promote`{_former(moves, current)}"
        )
    return target


def _former(moves: Sequence[Pointer], current: Pointer) -> str:
    versions = dict.fromkeys(move.version for move in moves if move.version != current.version)
    return f"; former champions: {', '.join(versions)}" if versions else ""
