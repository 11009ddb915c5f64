"""The nightly look at what is on record."""

from liftloop.provenance import lineage
from liftloop.provenance.lineage import Damage
from liftloop.storage.runs import Step
from liftloop.storage.store import open_store
from tasks.step import step


class ObjectsDamagedError(Exception):
    """Objects on record are missing or were changed; the message names them."""


@step
def verify_objects() -> tuple[list[Damage], Step]:
    """Re-hash every object that a run read or wrote."""
    count, damages = lineage.verify(open_store())
    print(f"{count} objects on record, {len(damages)} missing or changed")
    return damages, Step(name="verify", metrics={"objects": count, "damaged": len(damages)})


def refuse_damages(damages: list[Damage]) -> None:
    """Fail the run if there are any.

    Raises:
        ObjectsDamagedError: there are.
    """
    if damages:
        raise ObjectsDamagedError("\n".join(f"{each.ref.key}: {each.problem} (run {each.run})" for each in damages))
