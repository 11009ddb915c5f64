"""The simulated publisher: draws a log day by day from a seed, and lands it as files."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from math import ceil
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from liftloop.datasets.simulated.dirt import spoil
from liftloop.datasets.simulated.impressions import Traffic
from liftloop.datasets.simulated.raw_log import RawLog, to_bytes
from liftloop.datasets.simulated.truth import write_truth
from liftloop.datasets.simulated.users import draw_users
from liftloop.datasets.simulated.world import build_world
from liftloop.storage.frozen import Frozen

FILES_PER_DAY = 4
FILE_ROWS = 500_000  # a busier day lands more files, so that memory stays bounded
IDS_PER_DAY = 1_000_000_000


class SimulationSettings(Frozen):
    """What to simulate; the same settings land the same bytes."""

    impressions: int = Field(gt=0)
    days: int = Field(gt=0)
    seed: int = Field(default=0, ge=0)
    start_date: date = date(2026, 1, 5)
    dirty_share: float = Field(default=0.002, ge=0, lt=1)

    @model_validator(mode="after")
    def _fill_every_file(self) -> "SimulationSettings":
        least = self.days * FILES_PER_DAY
        if self.impressions < least:
            raise ValueError(f"impressions={self.impressions} is too few for days={self.days}; take at least {least}")
        return self


class SimulationSummary(Frozen):
    """What was landed; `rows` counts every row of every file, including corrupted ones."""

    files: int
    rows: int
    size_bytes: int
    rows_spoiled: dict[str, int]  # by kind of bug


def simulate(settings: SimulationSettings, land: Callable[[str, bytes], None], truth: Path) -> SimulationSummary:
    """Lands `{date}/part-{NNN}.parquet` for every day and writes the truth to the folder `truth`.

    One file is in memory at a time; its columns are described in `liftloop.datasets.simulated.raw_log`.
    """
    world, users = build_world(settings.seed), draw_users(settings.seed, settings.impressions)
    write_truth(world, users, truth)
    traffic, log = Traffic(world, users), RawLog(world.ads, users)
    files = rows = size_bytes = 0
    spoiled: Counter[str] = Counter()
    for day in range(settings.days):
        for key, table, rows_spoiled in day_files(settings, traffic, log, day):
            content = to_bytes(table)
            land(key, content)
            files, rows, size_bytes = files + 1, rows + table.num_rows, size_bytes + len(content)
            spoiled.update(rows_spoiled)
    return SimulationSummary(files=files, rows=rows, size_bytes=size_bytes, rows_spoiled=dict(spoiled))


def day_files(
    settings: SimulationSettings, traffic: Traffic, log: RawLog, day: int
) -> Iterator[tuple[str, pa.Table, dict[str, int]]]:
    """The key, the rows and the number of spoiled rows by kind of each file of one day, which counts from 0.

    A file covers an equal share of the day's traffic and has a random stream of its own.
    """
    when = settings.start_date + timedelta(days=day)
    epoch_day = (when - date(1970, 1, 1)).days
    impressions = _share_out(settings.impressions, settings.days)[day]
    parts = _share_out(impressions, max(FILES_PER_DAY, ceil(impressions / FILE_ROWS)))
    first_id = epoch_day * IDS_PER_DAY
    for part, count in enumerate(parts):
        rng = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(2, day, part)))
        drawn = traffic.draw(rng, count, start=part / len(parts), end=(part + 1) / len(parts))
        table = log.table(drawn, epoch_day=epoch_day, first_id=first_id)
        yield f"{when}/part-{part:03d}.parquet", *spoil(table, rng, share=settings.dirty_share)
        first_id += count


def _share_out(total: int, shares: int) -> list[int]:
    """`total` split into `shares` whole numbers that differ by at most one."""
    return [total // shares + (index < total % shares) for index in range(shares)]
