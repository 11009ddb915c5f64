"""From the lake to features, offline and online."""

from prefect import task

from liftloop.contract import load_contract
from liftloop.features import online, tables, tiles
from liftloop.runs import Step
from liftloop.store import open_store


@task
def update_tiles(source: str) -> Step:
    """Hourly sums of each key, for the days whose impressions changed."""
    return tiles.update_tiles(open_store(), load_contract(source))


@task
def update_feature_tables(source: str) -> Step:
    """Windows over the tiles, for the days whose tiles changed."""
    return tables.update_feature_tables(open_store(), load_contract(source))


@task
def update_online_store(source: str) -> Step:
    """The newest features of each key to where decisions are made."""
    return online.update_online_store(open_store(), load_contract(source))
