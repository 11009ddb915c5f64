"""Approval: a person's decision on a version, asked for once and recorded."""

from typing import Literal

from liftloop.gate.verdict import Check, Verdict
from liftloop.storage.keys import approval_key
from liftloop.storage.records import Record
from liftloop.storage.runs import Step, record
from liftloop.storage.store import Store


class Answer(Record):
    """The decision on one version, with author and reason. `no answer` is not written, so the next run asks again."""

    decision: Literal["promote", "refuse", "no answer"]
    reason: str

    @property
    def is_given(self) -> bool:
        return self.decision != "no answer"


def find_answer(store: Store, source: str, version: str) -> Answer | None:
    """The recorded answer about a version; None: there is none yet."""
    return Answer.read(store, approval_key(source, version))


def write_answer(store: Store, source: str, version: str, answer: Answer) -> None:
    """Write the answer, if one was given, and record it as a step of the run."""
    ref = answer.write(store, approval_key(source, version)) if answer.is_given else None
    record(Step(name="approval", outputs=(ref,) if ref else (), metrics=answer.model_dump()))


def with_answer(verdict: Verdict, answer: Answer) -> Verdict:
    """The verdict with an additional check, which fails unless the answer is `promote`."""
    check = Check(
        verdict="pass" if answer.decision == "promote" else "fail",
        reason=answer.reason,
        observed=answer.decision,
        threshold="promote",
        id="approval",
        title="approval",
    )
    return verdict.model_copy(update={"checks": (*verdict.checks, check)})
