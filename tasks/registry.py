"""The champion pointer."""

from prefect import task

from liftloop.gate.verdict import Verdict
from liftloop.runs import Step
from liftloop.store import open_store, references
from liftloop.training import registry
from liftloop.training.registry import Pointer


@task
def read_champion(source: str) -> Pointer | None:
    """The champion as it is now: what a challenger is judged against, and what its promotion expects to find."""
    return registry.champion(open_store(), source)


@task
def promote(verdict: Verdict, champion: Pointer | None) -> list[Step]:
    """Make the judged version champion if the verdict says so, unless it is or the champion was moved since."""
    is_champion = champion is not None and champion.version == verdict.version
    if verdict.verdict != "promote" or is_champion:
        return []
    store = open_store()
    expected = champion.etag if champion else None
    pointer = registry.promote(store, verdict.source, verdict.version, verdict.summary, expected)
    keys = [registry.champion_key(verdict.source), registry.audit_key(verdict.source, pointer.number)]
    return [Step(name="promote", outputs=references(store, keys), metrics=pointer.model_dump(mode="json"))]
