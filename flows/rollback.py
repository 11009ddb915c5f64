"""The champion of a source → a former one."""

from tasks.flow import recorded_flow
from tasks.outcome import Outcome, outcome
from tasks.registry import roll_back


@recorded_flow
def rollback(source: str, reason: str, to: str | None = None) -> Outcome:
    """Restore the previous champion, or the former champion `to`; nothing is trained."""
    return outcome(roll_back(source, reason, to))
