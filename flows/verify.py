"""Whether everything on record still exists, unchanged."""

from tasks.flow import recorded_flow
from tasks.verification import require_undamaged, verify_objects


@recorded_flow
def verify() -> None:
    """Re-hash every object on record; the run fails if one is missing, changed or of unknown producer."""
    require_undamaged(verify_objects())
