"""Is everything on record still there, and unchanged?"""

from tasks.flow import recorded_flow
from tasks.verification import require_undamaged, verify_objects


@recorded_flow
def verify() -> None:
    """Hash every object on record again; the run fails where one is missing, changed or of unknown origin."""
    require_undamaged(verify_objects())
