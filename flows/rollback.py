"""The champion of a source → a former one."""

from tasks.flow import recorded_flow
from tasks.registry import roll_back


@recorded_flow
def rollback(source: str, reason: str, to: str | None = None) -> None:
    """Restore the previous champion, or the former champion `to`; nothing is trained."""
    roll_back(source, reason, to)
