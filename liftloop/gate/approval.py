"""What people said of a version: asked once, and on record."""

from pydantic import BaseModel, ConfigDict

from liftloop.store import Store


class Answer(BaseModel):
    """The decision on one version (`promote`, `refuse` or `no answer`), and who gave which reason."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decision: str
    reason: str


def find_answer(store: Store, source: str, version: str) -> Answer | None:
    """What was said of a version; None: nobody was asked yet."""
    try:
        return Answer.model_validate_json(store.get(answer_key(source, version)))
    except KeyError:
        return None


def keep_answer(store: Store, source: str, version: str, answer: Answer) -> Answer:
    """Put it on record."""
    store.put(answer_key(source, version), answer.model_dump_json().encode())
    return answer


def answer_key(source: str, version: str) -> str:
    return f"registry/{source}/approvals/{version}.json"
