"""What one more day costs when a year is known, and when one day is: tiles and feature tables of three keys.

`python -m bench.tiles [--rows N] [--days N]`; the lake is generated, and the year before its last day is built first.
A retraining is prepared, from the lake to the training frame of all history, when a year is known and when a month is.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

from bench.generated_lake import generated_contract, lake_key, put_days
from bench.measure import ROUNDS, Case, Sample, console, in_fresh_process, report
from liftloop.features.definitions import TIME_TO_LIVE
from liftloop.features.feast_repo import apply_features
from liftloop.features.tiles import update_tiles
from liftloop.features.windows import update_feature_tables
from liftloop.settings import Settings
from liftloop.stack.standalone_store import standalone_object_store
from liftloop.storage.keys import FEATURES
from liftloop.storage.store import Store
from liftloop.training.frame_builder import build_frame

GOAL = 1.15
S3_PORT = 14_210
FULL_WINDOWS_DAY = TIME_TO_LIVE.days + 3  # from here on a day's windows hold as much as they ever will
MONTH = 30


def main() -> None:
    arguments = _arguments()
    rows_per_day = -(-arguments.rows // arguments.days)
    samples = {day: list[Sample]() for day in (2, FULL_WINDOWS_DAY, arguments.days)}
    prepared = {day: list[Sample]() for day in (MONTH, arguments.days)}
    with (
        tempfile.TemporaryDirectory(prefix="liftloop-") as home,
        standalone_object_store(Settings(home=Path(home), s3_port=S3_PORT)) as settings,
    ):
        started = perf_counter()
        for day in sorted({*samples, *prepared}):
            put_days(Store(settings), _source(day), range(1, day), rows_per_day)
            update(settings, _source(day))
            if day in prepared:
                apply_features(Store(settings), [generated_contract(_source(day))])
                prepare(settings, _source(day))
        build_seconds = round(perf_counter() - started, 1)
        for number in range(1, ROUNDS + 1):
            for day, each in samples.items():
                each.append(_one_more_day(Store(settings), day, rows_per_day, update, number))
            for day, each in prepared.items():
                each.append(_one_more_day(Store(settings), day, rows_per_day, prepare, number))
    _report(samples, prepared, {"rows_per_day": rows_per_day, "build_seconds": build_seconds})


def update(settings: Settings, source: str) -> None:
    """What is measured: from the lake to the feature tables."""
    store, contract = Store(settings), generated_contract(source)
    update_tiles(store, contract)
    update_feature_tables(store, contract)


def prepare(settings: Settings, source: str) -> None:
    """What is measured, too: all that comes before a training."""
    update(settings, source)
    build_frame(Store(settings), generated_contract(source))


def _one_more_day(
    store: Store, day: int, rows_per_day: int, work: Callable[[Settings, str], None], number: int
) -> Sample:
    """The day comes, is measured, and goes again."""
    source = _source(day)
    frames = f"{FEATURES}{source}/frames/"
    known = {item.key for item in store.list(frames)}
    put_days(store, source, range(day, day + 1), rows_per_day)
    sample = in_fresh_process(partial(work, store.settings, source))
    store.delete([lake_key(source, day), *(item.key for item in store.list(frames) if item.key not in known)])
    update(store.settings, source)
    console.print(
        f"round {number}  {work.__name__:<8} day {day:<4} {sample.seconds:6.2f} s  {sample.cpu_seconds:6.2f} CPU s"
        f"  {sample.peak_bytes / 2**20:6,.0f} MiB"
    )
    return sample


def _source(day: int) -> str:
    return f"before_day_{day}"


def _report(samples: dict[int, list[Sample]], prepared: dict[int, list[Sample]], details: dict[str, float]) -> None:
    cases = _cases("features", samples) + _cases("retraining", prepared)
    report("tiles", cases, rounds=ROUNDS, **details)


def _cases(work: str, samples: dict[int, list[Sample]]) -> list[Case]:
    seconds = {day: median(sample.seconds for sample in each) for day, each in samples.items()}
    peak_mib = {day: median(sample.peak_bytes for sample in each) / 2**20 for day, each in samples.items()}
    *starts, last = samples
    return [
        Case(f"{work}, day {last} vs day {day}: {what}", figures[last], figures[day], GOAL, unit)
        for day in starts
        for what, figures, unit in (("time", seconds, "s"), ("peak memory", peak_mib, "MiB"))
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000, help="impressions in all")
    parser.add_argument("--days", type=int, default=365)
    return parser.parse_args()


if __name__ == "__main__":
    main()
