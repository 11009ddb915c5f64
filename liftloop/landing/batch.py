"""What every step on one batch of landed objects needs."""

from dataclasses import dataclass
from pathlib import Path

import duckdb

from liftloop.contract.contract import Contract
from liftloop.contract.suite import Suite
from liftloop.lake.erasure import Erasures
from liftloop.lake.lake import Lake
from liftloop.lake.landed import Landed
from liftloop.landing.rules import Rule
from liftloop.storage.store import Store


@dataclass(frozen=True)
class Batch:
    """Landed objects of one kind: impressions, or one kind of outcomes; the folder is temporary."""

    lake: Lake
    landed: Landed
    contract: Contract  # by which they are read; of outcomes, not the one of the lake
    suite: Suite
    rules: list[Rule]
    erasures: Erasures
    connection: duckdb.DuckDBPyConnection
    folder: Path

    @property
    def store(self) -> Store:
        return self.lake.store
