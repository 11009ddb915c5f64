"""The champion of a source → a former one."""

from tasks.final_state import FinalState, completed
from tasks.flow import recorded_flow
from tasks.registry import roll_back


@recorded_flow
def rollback(source: str, reason: str, to: str | None = None) -> FinalState:
    """Restore the previous champion, or the former champion `to`; nothing is trained."""
    return completed(roll_back(source, reason, to))
