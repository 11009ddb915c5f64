"""The simulated publisher: draws a log day by day from a seed, and lands it as files."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from math import ceil
from pathlib import Path

import numpy as np
from pydantic import Field, model_validator

from liftloop.datasets.simulated.catalogue import ADS
from liftloop.datasets.simulated.decision_truth import write_decisions
from liftloop.datasets.simulated.dirt import spoil
from liftloop.datasets.simulated.draws import FloatArray
from liftloop.datasets.simulated.effects import STATIC, Effects
from liftloop.datasets.simulated.impressions import Traffic
from liftloop.datasets.simulated.landing import LandedFile, Landing
from liftloop.datasets.simulated.motion import Motion, build_motion
from liftloop.datasets.simulated.raw_log import RawLog, to_bytes
from liftloop.datasets.simulated.today import Today
from liftloop.datasets.simulated.truth import write_truth
from liftloop.datasets.simulated.users import draw_users
from liftloop.datasets.simulated.world import World, build_world
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
    effects: Effects = Effects()

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

    Columns are described in `liftloop.datasets.simulated.raw_log`. The log is as of the end of its last day: files that
    would land later (see `liftloop.datasets.simulated.landing`) are left out, while the truth is complete. One file is
    in memory at a time, beside late ones.
    """
    world, users = build_world(settings.seed), draw_users(settings.seed, settings.impressions)
    write_truth(world, users, truth)
    traffic, log = Traffic(world, users), RawLog(world.ads, users)
    motion = motion_of(settings, world)
    files = rows = size_bytes = 0
    spoiled: Counter[str] = Counter()
    days = (day_files(settings, traffic, log, day, motion, truth / "decisions") for day in range(settings.days))
    for file in Landing(settings.effects, settings.seed, settings.start_date).in_order(days):
        if file.day >= settings.days:
            continue
        content = to_bytes(file.table)
        land(file.key, content)
        files, rows, size_bytes = files + 1, rows + file.table.num_rows, size_bytes + len(content)
        spoiled.update(file.rows_spoiled)
    return SimulationSummary(files=files, rows=rows, size_bytes=size_bytes, rows_spoiled=dict(spoiled))


def motion_of(settings: SimulationSettings, world: World) -> Motion | None:
    """What moves in the days of these settings; None: nothing does."""
    if settings.effects == STATIC:
        return None
    return build_motion(settings.effects, settings.seed, settings.start_date, settings.days, world.eligible_ads)


def day_files(
    settings: SimulationSettings,
    traffic: Traffic,
    log: RawLog,
    day: int,
    motion: Motion | None = None,
    truth: Path | None = None,
) -> Iterator[LandedFile]:
    """The files of one day, which counts from 0, as they land if none is late, with the outcomes inside.

    A file covers an equal share of the day's traffic and has a random stream of its own. If the world moves, the truth
    about its decisions is written to a folder.
    """
    when = settings.start_date + timedelta(days=day)
    epoch_day = (when - date(1970, 1, 1)).days
    shares = np.ones(settings.days) if motion is None else motion.traffic
    impressions = _share_out(settings.impressions, shares)[day]
    today = (
        None
        if motion is None
        else Today.begin(settings.effects, motion, traffic.world, day, len(traffic.users.segment), impressions)
    )
    ad_ids = ADS if motion is None else motion.ad_ids(day)
    parts = _share_out(impressions, np.ones(max(FILES_PER_DAY, ceil(impressions / FILE_ROWS))))
    first_id = epoch_day * IDS_PER_DAY
    for part, count in enumerate(parts):
        rng = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(2, day, part)))
        drawn = traffic.draw(rng, count, start=part / len(parts), end=(part + 1) / len(parts), today=today)
        table = log.table(drawn, epoch_day=epoch_day, first_id=first_id, ad_ids=ad_ids)
        if today and truth:
            write_decisions(truth, f"{when}-part-{part:03d}", drawn, first_id, ad_ids, traffic.world)
        spoiled, counts = spoil(table, rng, share=settings.dirty_share)
        yield LandedFile(day, f"{when}/part-{part:03d}.parquet", spoiled, counts)
        first_id += count


def _share_out(total: int, shares: FloatArray) -> list[int]:
    """`total` split into whole numbers in these shares; of equal shares, the first are larger by one."""
    exact = total * shares / shares.sum()
    whole = np.floor(exact).astype(int)
    order = np.argsort(whole - exact, kind="stable")
    whole[order[: total - whole.sum()]] += 1
    return [int(each) for each in whole]
