"""Lake → tiles → feature tables → online store."""

from prefect import flow

from tasks.features import update_feature_tables, update_online_store, update_tiles
from tasks.record import record_run


@flow(name="materialize", log_prints=True)
def materialize(source: str) -> None:
    """Bring a source's features up to date with its lake, for training and for decisions."""
    with record_run(source) as run:
        for update in (update_tiles, update_feature_tables, update_online_store):
            run.steps.append(update(source))
