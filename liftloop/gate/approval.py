"""People's decisions on a version: asked for once, and on record."""

from typing import Literal

from liftloop.gate.verdict import Check, Verdict
from liftloop.storage.frozen import Frozen
from liftloop.storage.keys import approval_key
from liftloop.storage.runs import Step, record
from liftloop.storage.store import Store


class Answer(Frozen):
    """The decision on one version, with its author and reason. No answer is not written: the next run asks again."""

    decision: Literal["promote", "refuse", "no answer"]
    reason: str

    @property
    def is_given(self) -> bool:
        return self.decision != "no answer"


def find_answer(store: Store, source: str, version: str) -> Answer | None:
    """The answer on record about a version; None: there is none yet."""
    try:
        return Answer.model_validate_json(store.get(approval_key(source, version)))
    except KeyError:
        return None


def write_answer(store: Store, source: str, version: str, answer: Answer) -> None:
    """Put it on record, unless there was none."""
    kept = store.put(approval_key(source, version), answer.model_dump_json().encode()) if answer.is_given else None
    record(Step(name="approval", outputs=(kept,) if kept else (), metrics=answer.model_dump()))


def with_answer(verdict: Verdict, answer: Answer) -> Verdict:
    """The verdict with one more check: anything but approval refuses."""
    check = Check(
        verdict="pass" if answer.decision == "promote" else "fail",
        reason=answer.reason,
        observed=answer.decision,
        threshold="promote",
        id="approval",
        title="approval",
    )
    return verdict.model_copy(update={"checks": (*verdict.checks, check)})
