"""Features → training frame → model on record."""

from prefect import flow

from tasks.record import record_run
from tasks.training import build_frame, train_model


@flow(name="train", log_prints=True)
def train(source: str) -> None:
    """Train a model of a source on all that has matured; nothing is trained twice on the same."""
    with record_run(source) as run:
        frame, step = build_frame(source)
        run.steps.append(step)
        version, step = train_model(source, frame)
        run.steps.append(step)
