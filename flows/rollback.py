"""The champion of a source → a former one."""

from prefect import flow

from tasks.record import record_run
from tasks.registry import roll_back


@flow(name="rollback", log_prints=True)
def rollback(source: str, reason: str, to: str | None = None) -> None:
    """Restore the champion before, or the former champion `to`; nothing is trained."""
    with record_run(source) as run:
        run.steps.append(roll_back(source, reason, to))
