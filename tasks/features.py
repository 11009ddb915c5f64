"""Computes features from the lake, offline and online."""

from liftloop.contract.loading import load_contract
from liftloop.features import skew, tiles, windows
from liftloop.features.skew import Difference
from liftloop.lake.lake import Lake
from liftloop.operations import pending_work
from liftloop.operations.retraining import TrainingNeed, training_need
from liftloop.storage.store import open_store
from tasks.events import announce, is_part_of_chain
from tasks.final_state import FinalState, completed
from tasks.step import step


@step
def read_lake_version(source: str) -> str:
    """The version of the lake that the following steps compute features from."""
    return Lake(open_store(), load_contract(source)).version


@step
def update_tiles(source: str) -> None:
    """Update each key's hourly sums, for days whose impressions changed."""
    tiles.update_tiles(open_store(), load_contract(source))


@step
def update_feature_tables(source: str) -> None:
    """Update the windows over the tiles, for days whose tiles changed."""
    windows.update_feature_tables(open_store(), load_contract(source))


@step
def update_online_store(source: str) -> None:
    """Write each key's newest features to the online store."""
    from liftloop.features import materialize  # noqa: PLC0415  (Feast takes seconds to import; earlier steps need not wait)

    materialize.update_online_store(open_store(), load_contract(source))


@step
def find_skew(source: str) -> list[Difference]:
    """Compare online and offline features of a sample of recently served keys."""
    return skew.find_skew(open_store(), load_contract(source))


@step
def require_no_skew(source: str, differences: list[Difference]) -> None:
    """Fail the run if features differ: no model may be trained on features that decisions do not read."""
    skew.require_no_skew(open_store(), load_contract(source), differences)


@step
def announce_features(source: str, lake_version: str) -> TrainingNeed:
    """Record the lake version of the features, and emit `features.materialized`, which says if a training is due."""
    store = open_store()
    need = training_need(store, load_contract(source))
    due, resting = (need.reason, None) if need.is_due else (None, need.reason)
    pending_work.write_materialized(store, source, lake_version, due, resting)
    if not is_part_of_chain():
        announce("features.materialized", source, {"reason": due}, retraining="due" if due else "not due")
    return need


def features_state(need: TrainingNeed) -> FinalState:
    """Whether the features make a training due, and why or why not."""
    return completed(f"{'a training is due' if need.is_due else 'no training is due'}: {need.reason}")
