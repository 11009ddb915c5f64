"""Where the contract asks for it, a person confirms a promotion in the Prefect UI."""

from datetime import timedelta
from typing import Literal

from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from pydantic import Field

from liftloop.contract.contract import load_contract
from liftloop.gate.approval import Answer, find_answer, keep_answer
from liftloop.gate.verdict import Check, Verdict
from liftloop.registry.versions import Pointer
from liftloop.storage.runs import Step
from liftloop.storage.store import open_store
from tasks.registry import is_promotion
from tasks.step import step


class Approval(RunInput):
    """The form that the UI shows with the paused run."""

    decision: Literal["promote", "refuse"]
    approver: str = Field(pattern=r"\S", description="Who decides.")
    reason: str = Field(pattern=r"\S", description="Why. Kept in the audit trail.")


def approve(verdict: Verdict, champion: Pointer | None) -> tuple[Verdict, list[Step]]:
    """The verdict with one check more: what a person said, or that nobody did in time, which refuses.

    Who has answered is not asked again about the same version, however often it is trained or a run started again.
    """
    contract = load_contract(verdict.source)
    if contract.approval == "none" or not is_promotion(verdict, champion):
        return verdict, []
    answer = recall(verdict) or _ask(verdict, contract.approval_within)
    kept = remember(verdict, answer)
    check = Check(
        name="approval",
        observed=answer.decision,
        threshold="promote",
        verdict="pass" if answer.decision == "promote" else "fail",
        reason=answer.reason,
    )
    return verdict.model_copy(update={"checks": (*verdict.checks, check)}), [kept]


@step
def recall(verdict: Verdict) -> Answer | None:
    """What somebody said of the version before."""
    return find_answer(open_store(), verdict.source, verdict.version)


@step
def remember(verdict: Verdict, answer: Answer) -> Step:
    """Put on record what was said."""
    return keep_answer(open_store(), verdict.source, verdict.version, answer)


def _ask(verdict: Verdict, within: timedelta) -> Answer:
    """Pause the run until somebody has filled in the form."""
    form = Approval.with_initial_data(description=f"**{verdict.version}** of {verdict.source}: {verdict.summary}")
    limit_seconds = int(within.total_seconds())
    try:
        key = f"{verdict.version}-{flow_run.run_count}"  # a run that died while it asked asks anew
        said = pause_flow_run(wait_for_input=form, timeout=limit_seconds, poll_interval=3, key=key)
    except FlowPauseTimeout:
        return Answer(decision="no answer", reason=f"nobody approved it within {within}")
    return Answer(decision=said.decision, reason=f"{said.approver}: {said.reason}")
