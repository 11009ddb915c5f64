"""Reads and changes champion and challenger."""

from prefect.runtime import flow_run

from liftloop.gate.promotion import challenge_judged, promote_judged
from liftloop.gate.verdict import Verdict
from liftloop.registry.registry import Registry
from liftloop.registry.rollback import rollback
from liftloop.registry.versions import Pointer
from liftloop.storage.store import open_store
from tasks.step import step


@step
def read_champion(source: str) -> Pointer | None:
    """The current champion: the baseline for judging a version, and the expected value for its promotion."""
    return Registry(open_store(), source).champion()


@step
def promote(verdict: Verdict, champion: Pointer | None) -> None:
    """Make the judged version champion if the verdict says so; fails if the champion has changed since."""
    promote_judged(open_store(), verdict, champion, flow_run.id)


@step
def challenge(verdict: Verdict, champion: Pointer | None) -> None:
    """Make the judged version challenger if the hold-out cannot tell which is better; the champion stays."""
    challenge_judged(open_store(), verdict, champion, flow_run.id)


@step
def roll_back(source: str, reason: str, to: str | None) -> str:
    """Restore a former champion, and return a sentence on it; retries of the run do not repeat it."""
    pointer = rollback(Registry(open_store(), source), reason, to, flow_run.id)
    return f"the champion of {source} is {pointer.version}, no longer {pointer.previous}"
