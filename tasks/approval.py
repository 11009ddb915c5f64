"""Where the contract asks for it, a person confirms a promotion in the Prefect UI."""

from datetime import timedelta
from typing import Literal

from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from pydantic import Field

from liftloop.contract.loading import load_contract
from liftloop.gate.approval import Answer, find_answer, with_answer
from liftloop.gate.approval import write_answer as write
from liftloop.gate.promotion import asks_for_promotion
from liftloop.gate.verdict import Verdict
from liftloop.registry.versions import Pointer
from liftloop.storage.store import open_store
from tasks.step import step


class Approval(RunInput):
    """The form that the UI shows with the paused run."""

    decision: Literal["promote", "refuse"]
    approver: str = Field(pattern=r"\S", description="Who decides.")
    reason: str = Field(pattern=r"\S", description="Why. Kept in the audit trail.")


def approve(verdict: Verdict, champion: Pointer | None) -> Verdict:
    """The verdict with a person's answer as one more check; no answer in time refuses.

    Each version is asked about once, even if it is trained again or the run is retried.
    """
    contract = load_contract(verdict.source)
    if contract.approval == "none" or not asks_for_promotion(verdict, champion):
        return verdict
    answer = read_answer(verdict) or _ask(verdict, contract.approval_within)
    write_answer(verdict, answer)
    return with_answer(verdict, answer)


@step
def read_answer(verdict: Verdict) -> Answer | None:
    """An earlier answer about this version, or None."""
    return find_answer(open_store(), verdict.source, verdict.version)


@step
def write_answer(verdict: Verdict, answer: Answer) -> None:
    """Write the answer."""
    write(open_store(), verdict.source, verdict.version, answer)


def _ask(verdict: Verdict, within: timedelta) -> Answer:
    """Pause the run until a person submits the form."""
    form = Approval.with_initial_data(description=f"**{verdict.version}** of {verdict.source}: {verdict.summary}")
    limit_seconds = int(within.total_seconds())
    try:
        key = f"{verdict.version}-{flow_run.run_count}"  # a run that died while waiting asks again
        filled = pause_flow_run(wait_for_input=form, timeout=limit_seconds, poll_interval=3, key=key)
    except FlowPauseTimeout:
        return Answer(decision="no answer", reason=f"no approval within {within}")
    return Answer(decision=filled.decision, reason=f"{filled.approver}: {filled.reason}")
