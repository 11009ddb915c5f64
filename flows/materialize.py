"""Lake → tiles → feature tables → online store, which must hold what the tables do."""

from prefect import flow

from tasks.features import (
    announce_features,
    compare_online_with_offline,
    read_lake_version,
    refuse_skew,
    update_feature_tables,
    update_online_store,
    update_tiles,
)
from tasks.record import record_run
from tasks.turn import turn


@flow(name="materialize", log_prints=True)
def materialize(source: str) -> None:
    """Bring a source's features up to date with its lake, for training and for decisions; one run at a time."""
    with record_run(source) as run, turn(source):
        lake_version = read_lake_version(source)
        for update in (update_tiles, update_feature_tables, update_online_store):
            run.steps.append(update(source))
        differences, step = compare_online_with_offline(source)
        run.steps.append(step)
        refuse_skew(source, differences)
        run.steps.append(announce_features(source, lake_version))
