"""Champion and challenger."""

from prefect.runtime import flow_run

from liftloop.gate.verdict import Verdict
from liftloop.registry import challenger, promotion, rollback, versions
from liftloop.registry.versions import Pointer
from liftloop.storage.runs import Step
from liftloop.storage.store import open_store
from tasks.step import step


@step
def read_champion(source: str) -> Pointer | None:
    """The champion as it is now: what a challenger is judged against, and what its promotion expects to find."""
    return versions.champion(open_store(), source)


def is_promotion(verdict: Verdict, champion: Pointer | None) -> bool:
    """Whether the verdict asks for another champion than there is."""
    return verdict.verdict == "promote" and (champion is None or champion.version != verdict.version)


@step
def promote(verdict: Verdict, champion: Pointer | None) -> list[Step]:
    """Make the judged version champion if the verdict says so, unless it is or the champion was moved since."""
    if not is_promotion(verdict, champion) and not was_interrupted(verdict, champion):
        return []
    store = open_store()
    expected = champion.etag if champion else None
    pointer = promotion.promote(store, verdict.source, verdict.version, reason_of(verdict), expected, flow_run.id)
    return [promotion.move_step("promote", store, verdict.source, pointer)]


@step
def challenge(verdict: Verdict, champion: Pointer | None) -> list[Step]:
    """Make the judged version challenger where nothing speaks against it and the hold-out cannot tell which is better.

    What live traffic is for; the champion stays.
    """
    if verdict.verdict != "inconclusive" or champion is None or champion.version == verdict.version:
        return []
    store = open_store()
    made = challenger.challenge(store, verdict.source, verdict.version, verdict.summary, flow_run.id)
    return [challenger.challenge_step(store, verdict.source, made)]


def was_interrupted(verdict: Verdict, champion: Pointer | None) -> bool:
    """Whether this very run had made the version champion, and may have died before it wrote that down."""
    return champion is not None and (champion.run_id, champion.version) == (flow_run.id, verdict.version)


def reason_of(verdict: Verdict) -> str:
    """What the audit trail says: the verdict, and who approved it if somebody had to."""
    approvals = [f"; approved by {check.reason}" for check in verdict.checks if check.name == "approval"]
    return verdict.summary + "".join(approvals)


@step
def roll_back(source: str, reason: str, to: str | None) -> Step:
    """Restore a former champion, once however often the run is tried."""
    store = open_store()
    pointer = rollback.rollback(store, source, reason, to, flow_run.id)
    print(f"the champion of {source} is {pointer.version}, no longer {pointer.previous}")
    return promotion.move_step("rollback", store, source, pointer)
