"""Verifies all objects on record, nightly."""

from liftloop.provenance import lineage
from liftloop.provenance.lineage import Damage
from liftloop.storage.runs import Step, record
from liftloop.storage.store import open_store
from tasks.step import step


class ObjectsDamagedError(Exception):
    """Objects on record are missing, changed or of unknown producer; the message names them."""


@step
def verify_objects() -> list[Damage]:
    """Re-hash every object that a run read or wrote."""
    count, damages = lineage.verify(open_store())
    record(Step(name="verify", metrics={"objects": count, "damaged": len(damages)}))
    return damages


def require_undamaged(damages: list[Damage]) -> None:
    """Fail the run if there are damages.

    Raises:
        ObjectsDamagedError: there are some.
    """
    if damages:
        raise ObjectsDamagedError("\n".join(f"{each.ref.key}: {each.problem} (run {each.run})" for each in damages))
