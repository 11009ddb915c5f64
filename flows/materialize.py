"""Lake → tiles → feature tables → online store, which must agree with the tables."""

from tasks.exclusive import exclusive_run
from tasks.features import (
    announce_features,
    features_state,
    find_skew,
    read_lake_version,
    require_no_skew,
    update_feature_tables,
    update_online_store,
    update_tiles,
)
from tasks.final_state import FinalState
from tasks.flow import recorded_flow


@recorded_flow
def materialize(source: str) -> FinalState:
    """Update a source's features from its lake, for training and for decisions; one run at a time."""
    with exclusive_run(source):
        lake_version = read_lake_version(source)
        update_tiles(source)
        update_feature_tables(source)
        update_online_store(source)
        require_no_skew(source, find_skew(source))
        return features_state(announce_features(source, lake_version))
