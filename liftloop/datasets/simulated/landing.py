"""How a simulated log lands: which files are late, and outcomes in files of their own. What happened stays the same.

At the end of each day its files land, then the outcomes that became known on it, then late files of earlier days.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from liftloop.datasets.simulated.effects import STATIC, Effects
from liftloop.datasets.simulated.impressions import DAY_MS

LATEST_DAYS = 2  # by which a file is late, at most; as likely as one day
OUTCOMES = ("clk", "conv", "rev_micros", "out_ts")
_DAYS_AFTER = 3  # until the last file has landed: a click after midnight, and two days to its conversion
_OF_MOVING = {"position", "eligible_ads"}  # what the contract maps of a world that moves alone
_MAPPED_OUTCOMES = ("click", "conversion", "revenue", "outcome_timestamp")


@dataclass(frozen=True)
class LandedFile:
    """The rows of a file, and the day at whose end it lands, from 0."""

    day: int
    key: str
    table: pa.Table
    rows_spoiled: dict[str, int]  # by kind of bug


@dataclass(frozen=True)
class Landing:
    """The landing of the files of some days; the first is `start`."""

    effects: Effects
    seed: int
    start: date

    def in_order(self, days: Iterable[Iterable[LandedFile]]) -> Iterator[LandedFile]:
        """The files of all days, and of outcomes, in the order of landing, until the last one has landed."""
        waiting: dict[int, list[LandedFile]] = defaultdict(list)
        known: dict[int, list[pa.Table]] = defaultdict(list)
        for day, files in enumerate(chain(days, [()] * _DAYS_AFTER)):
            for file in self._late(day, self._without_outcomes(files, known)):
                if file.day == day:
                    yield file
                else:
                    waiting[file.day].append(file)
            if outcomes := known.pop(day, None):
                yield self._outcome_file(day, outcomes)
            yield from waiting.pop(day, ())

    def _without_outcomes(self, files: Iterable[LandedFile], known: dict[int, list[pa.Table]]) -> Iterator[LandedFile]:
        """The files as they land; their outcomes are added to those of the day at which they become known.

        What `dirt.py` does to an outcome is seen only where there is one; a click without an impression is in no file.
        """
        for file in files:
            if not self.effects.outcome_files:
                yield file
                continue
            has_outcome = pc.and_(pc.equal(file.table["clk"], 1), pc.is_valid(file.table["imp_id"]))
            clicked = file.table.filter(has_outcome).select(["imp_id", *OUTCOMES])
            first = (self.start - date(1970, 1, 1)).days
            days = np.maximum(clicked["out_ts"].to_numpy() // DAY_MS - first, file.day)
            for day in np.unique(days):
                known[int(day)].append(clicked.filter(pa.array(days == day)))
            yield replace(file, table=file.table.drop_columns(list(OUTCOMES)))

    def _late(self, day: int, files: Iterable[LandedFile]) -> Iterator[LandedFile]:
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(4, day)))
        for file in files:
            is_late, days = rng.random() < self.effects.late_files, int(rng.integers(1, LATEST_DAYS + 1))
            yield replace(file, day=day + days) if is_late else file

    def _outcome_file(self, day: int, tables: list[pa.Table]) -> LandedFile:
        key = f"outcomes/{self.start + timedelta(days=day)}.parquet"
        return LandedFile(day, key, pa.concat_tables(tables).sort_by("out_ts"), {})


def document_of(document: Mapping[str, Any], effects: Effects) -> dict[str, Any]:
    """The simulated publisher's contract for a world of these effects; its YAML file is that of `Effects()`."""
    found = dict(document)
    if not effects.outcome_files:
        inside = {name: found["outcome_files"]["outcomes"]["columns"][name] for name in _MAPPED_OUTCOMES}
        found |= {"columns": found["columns"] | inside, "outcome_files": {}}
    if effects == STATIC:
        columns, context = (
            {name: column for name, column in found[section].items() if name not in _OF_MOVING}
            for section in ("columns", "context")
        )
        found |= {"columns": columns, "context": context, "gate": {**found["gate"], "exchangeable_days": True}}
    return found
