"""The whole chain: landed logs → lake → features → model and verdict → evaluation."""

from prefect import flow

from flows.evaluate import evaluate
from flows.ingest import ingest
from flows.materialize import materialize
from flows.train import train
from tasks.record import record_run


@flow(name="lifecycle", log_prints=True)
def lifecycle(source: str) -> None:
    """Run every stage for a source on whatever has landed; what did not change is not computed again."""
    with record_run(source):
        ingest(source)
        materialize(source)
        train(source)
        evaluate(source)
