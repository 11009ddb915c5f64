"""A simulated log whose outcomes land apart, late, gives the lake of one that has them inside."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import yaml

from liftloop.contract.contract import Contract
from liftloop.datasets.simulated import SimulationSettings, simulate
from liftloop.datasets.simulated.effects import LANDS_WHOLE, Effects
from liftloop.datasets.simulated.landing import document_of
from liftloop.lake.lake import Lake
from liftloop.landing.ingest import ingest_batch, pending_batches
from liftloop.project import find_project
from liftloop.storage.duckdb import connect
from liftloop.storage.store import Store, land

DAYS = 3


def lake_of(store: Store, effects: Effects, truth: Path) -> pd.DataFrame:
    """The impressions of a log that is ingested as of the end of each day."""
    document: dict[str, Any] = yaml.safe_load((find_project().contracts_folder / "simulated.yaml").read_text())
    source = f"simulated_{uuid4().hex[:8]}"
    contract = Contract.model_validate(document_of(document, effects) | {"source": source})
    settings = SimulationSettings(impressions=30_000, days=DAYS, seed=7, dirty_share=0, effects=effects)
    files: list[tuple[str, bytes]] = []
    simulate(settings, lambda key, body: files.append((key, body)), truth)
    lake = Lake(store, contract)
    for start in range(0, len(files), 5):
        for key, body in files[start : start + 5]:
            land(store, source, key, body)
        while batches := list(pending_batches(lake)):
            for batch in batches:
                ingest_batch(lake, batch)
    with connect(store.settings) as connection:
        return connection.read_parquet(lake.uris, union_by_name=True).order("impression_id").df()


def test_outcomes_that_land_apart_join_their_impressions(store: Store, tmp_path: Path) -> None:
    inside, apart = (lake_of(store, each, tmp_path / str(each.outcome_files)) for each in (LANDS_WHOLE, Effects()))
    inside = inside[inside["impression_id"].isin(apart["impression_id"])].reset_index(drop=True)
    assert len(inside) > 20_000  # late files of the last days have not landed
    end = inside["event_timestamp"].max().ceil("D")
    clicked, is_known = inside["click"] == 1, inside["outcome_timestamp"] < end
    assert (clicked & is_known).sum() > 50
    has_outcome = clicked & is_known
    pd.testing.assert_frame_equal(inside[has_outcome], apart[has_outcome])
    names = ["click", "conversion", "revenue"]
    assert (apart.loc[~has_outcome, names] == 0).all(axis=None)
    others = [name for name in inside if name not in {*names, "outcome_timestamp"}]
    pd.testing.assert_frame_equal(inside[others], apart[others])
