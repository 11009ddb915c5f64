"""Is everything on record still there, and unchanged?"""

from prefect import flow

from tasks.record import record_run
from tasks.verification import refuse_damages, verify_objects


@flow(name="verify", log_prints=True)
def verify() -> None:
    """Hash every object on record again; the run fails where one is missing or changed."""
    with record_run("all") as run:
        damages, step = verify_objects()
        run.steps.append(step)
        refuse_damages(damages)
