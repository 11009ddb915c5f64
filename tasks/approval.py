"""Where the contract asks for it, a person confirms a promotion in the Prefect UI."""

from typing import Literal

from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from pydantic import Field

from liftloop.contract import load_contract
from liftloop.gate.verdict import Check, Verdict
from liftloop.runs import Step
from liftloop.training.registry import Pointer
from tasks.registry import is_promotion


class Approval(RunInput):
    """The form that the UI shows with the paused run."""

    decision: Literal["promote", "refuse"]
    approver: str = Field(min_length=1, description="Who decides.")
    reason: str = Field(min_length=1, description="Why. Kept in the audit trail.")


def approve(verdict: Verdict, champion: Pointer | None) -> tuple[Verdict, list[Step]]:
    """The verdict with one check more: what a person said, or that nobody did in time, which refuses."""
    contract = load_contract(verdict.source)
    if contract.approval == "none" or not is_promotion(verdict, champion):
        return verdict, []
    try:
        form = Approval.with_initial_data(description=f"**{verdict.version}** of {verdict.source}: {verdict.summary}")
        limit_seconds = int(contract.approval_within.total_seconds())
        answer = pause_flow_run(wait_for_input=form, timeout=limit_seconds, poll_interval=3)
        said: str = answer.decision
        reason = f"{answer.approver}: {answer.reason}"
    except FlowPauseTimeout:
        said, reason = "no answer", f"nobody approved it within {contract.approval_within}"
    check = Check(
        name="approval",
        observed=said,
        threshold="promote",
        verdict="pass" if said == "promote" else "fail",
        reason=reason,
    )
    judged = verdict.model_copy(update={"checks": (*verdict.checks, check)})
    return judged, [Step(name="approval", metrics={"decision": said, "reason": reason})]
