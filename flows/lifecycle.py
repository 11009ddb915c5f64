"""The whole chain: landed logs → lake → features → model and verdict → evaluation."""

from flows.evaluate import evaluate
from flows.ingest import ingest
from flows.materialize import materialize
from flows.train import train
from tasks.flow import recorded_flow


@recorded_flow
def lifecycle(source: str) -> None:
    """Run every stage for a source on all landed files; unchanged results are reused."""
    ingest(source)
    materialize(source)
    train(source)
    evaluate(source)
