"""Plans the training frame, which reads the lake, splits it by time, and joins each day's features once."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import chain
from typing import Any, Self

import duckdb

from liftloop.contract.contract import Contract
from liftloop.contract.sections import Split, Training
from liftloop.errors import UserError
from liftloop.features.landing_delay import LandingDelay, measure_landing_delay
from liftloop.lake.days import by_day
from liftloop.lake.lake import Lake
from liftloop.storage.duckdb import connect
from liftloop.storage.hashing import fingerprint_of
from liftloop.storage.keys import features_prefix, frame_index_key
from liftloop.storage.runs import Step, record
from liftloop.storage.store import Store, concurrently
from liftloop.training.frame import FrameIndex, FramePart, Part, TrainingFrame, joined, open_frame
from liftloop.training.frame_days import Day, FrameDay, Span, days_of, midnight, shape_of, table_days

RULE_VERSION = "frame 3"
FEWEST_TRAINING_ROWS = 100  # fewer teach a model nothing that holds the next day
_MICROSECOND = timedelta(microseconds=1)  # the resolution of event times
_DAY = timedelta(days=1)


class FrameError(UserError):
    """There is too little data to train on or to evaluate by; the message names the part and the remedy."""


def build_frame(store: Store, contract: Contract) -> TrainingFrame:
    """The frame of the matured impressions; of each day that has not changed, what is on record is used again.

    Raises:
        FrameError: see `measure_parts`.
    """
    plan = Plan.read(store, contract)
    known = open_frame(store, contract.source, plan.fingerprint)
    if known is not None:
        record(_step(known.index, days_joined=0))
        return known
    plan.require_enough()
    days_joined = plan.build()
    days = {name: [plan.on_record[day.fingerprint].part for day in plan.days[name]] for name in plan.days}
    index = FrameIndex(
        source=contract.source,
        fingerprint=plan.fingerprint,
        inputs=tuple(sorted({ref for day in plan.on_record.values() for ref in day.inputs})),
        landing_delay=plan.delay,
        parts={name: joined(plan.spans[name], parts) for name, parts in days.items()},
        days=tuple(chain(*days.values())),
    )
    index.write(store, frame_index_key(contract.source, plan.fingerprint))
    record(_step(index, days_joined=days_joined))
    return TrainingFrame(store, index)


def measure_parts(store: Store, contract: Contract) -> dict[Part, FramePart]:
    """The parts that a frame of the lake would have, without their partitions.

    Raises:
        FrameError: the training part has too few rows, or a part of the split has only one kind of reward.
    """
    plan = Plan.read(store, contract)
    plan.require_enough()
    return plan.measured


def split_by_time(matured: Span, split: Split, training: Training) -> dict[Part, Span]:
    """The newest matured rows are the hold-out, the rows before them validation, earlier ones training.

    Parts of whole days begin at the nearest midnight, UTC, so that all days but the newest are the same in any frame.
    """
    start, end = matured
    holdout = _before(end, split.holdout)
    validation = _before(holdout, split.validation)
    if training.window is not None:
        start = max(start, _before(validation, training.window))
    return {"training": (start, validation), "validation": (validation, holdout), "holdout": (holdout, end)}


def _before(end: datetime, span: timedelta) -> datetime:
    start = end - span
    return start if span % _DAY else midnight((start + _DAY / 2).date())


@dataclass(frozen=True, eq=False)
class Plan:
    """A frame of the lake as it is: its parts, and the days of each; `contract` names the landing delay."""

    store: Store
    contract: Contract
    delay: LandingDelay
    spans: dict[Part, Span]
    days: dict[Part, list[Day]]

    @classmethod
    def read(cls, store: Store, contract: Contract) -> Self:
        """
        Raises:
            FrameError: the lake is empty, or all rows have one event time.
        """
        lake = Lake(store, contract)
        spans = split_by_time(_matured(lake), contract.split, contract.training)
        delay = measure_landing_delay(store, contract)
        contract = delay.pinned(contract)
        files, shape = lake.by_day(), shape_of(contract)
        tables = by_day(item for key in contract.keys for item in store.list(features_prefix(contract.source, key)))

        def day(span: Span) -> Day:
            first, last = table_days(contract, span)
            rests_on = (item for date, items in tables.items() if first <= date <= last for item in items)
            return Day(store, contract, shape, span, tuple(files[span[0].date()]), tuple(rests_on))

        days = {name: [day(each) for each in days_of(span) if each[0].date() in files] for name, span in spans.items()}
        return cls(store, contract, delay, spans, days)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with everything that the frame depends on."""
        days = (day.fingerprint for days in self.days.values() for day in days)
        return fingerprint_of(RULE_VERSION, self.delay, *self.spans.values(), *days)

    @cached_property
    def on_record(self) -> dict[str, FrameDay]:
        """The finished days, by fingerprint."""
        days = [*chain(*self.days.values())]
        found = zip(days, concurrently(Day.on_record, days), strict=True)
        return {day.fingerprint: record for day, record in found if record is not None}

    @cached_property
    def _measured_days(self) -> dict[str, FramePart]:
        """The numbers of rows and rewards of each day, by fingerprint."""
        measured = {fingerprint: day.part for fingerprint, day in self.on_record.items()}
        with connect(self.store.settings) as connection:
            others = (day for day in chain(*self.days.values()) if day.fingerprint not in measured)
            return measured | {day.fingerprint: day.measure(connection) for day in others}

    @cached_property
    def measured(self) -> dict[Part, FramePart]:
        days = {name: [self._measured_days[day.fingerprint] for day in days] for name, days in self.days.items()}
        return {name: joined(self.spans[name], parts) for name, parts in days.items()}

    def require_enough(self) -> None:
        """
        Raises:
            FrameError: see `measure_parts`.
        """
        for name, part in self.measured.items():
            require_enough(self.contract, name, part)

    def build(self) -> int:
        """Build the days that are not on record; returns their number."""
        missing = [day for day in chain(*self.days.values()) if day.fingerprint not in self.on_record]
        with connect(self.store.settings) as connection:
            for day in missing:
                self.on_record[day.fingerprint] = day.build(connection, self._measured_days[day.fingerprint])
        return len(missing)


def _matured(lake: Lake) -> Span:
    """The span of the matured rows.

    Raises:
        FrameError: there are none, or all have one event time.
    """
    contract, files = lake.contract, lake.by_day()
    if not files:
        raise FrameError(f"the lake of {contract.source} is empty: land its logs and run ingest first")
    with connect(lake.store.settings) as connection:
        first, rows = _first_event(connection, [lake.store.uri(item.key) for item in files[min(files)]])
    as_of = lake.newest_event()
    assert as_of is not None  # there are files
    if first == as_of:
        raise FrameError(
            f"all {rows} impressions of {contract.source} have the event time {first:%F %T}, so they cannot be split by"
            f" time: map event_timestamp in contracts/{contract.source}.yaml to when each was served"
        )
    return first, as_of - contract.maturity + _MICROSECOND


def _first_event(connection: duckdb.DuckDBPyConnection, uris: list[str]) -> tuple[datetime, int]:
    row = connection.read_parquet(uris, union_by_name=True).aggregate("min(event_timestamp), count(*)").fetchone()
    assert row is not None  # an aggregate always answers
    return row[0], row[1]


def require_enough(contract: Contract, name: Part, part: FramePart, noun: str = "rows") -> None:
    """Require rows of both kinds, and enough to train on.

    Raises:
        FrameError: they lack; it calls the rows by `noun`.
    """
    if part.rewards in (0, part.rows) or (name == "training" and part.rows < FEWEST_TRAINING_ROWS):
        raise FrameError(_lacking(contract, name, part, noun))


def _lacking(contract: Contract, name: Part, part: FramePart, noun: str) -> str:
    start, end = part.start, part.end
    until = f"{end:%Y-%m-%d %H:%M}"
    when = f"{start:%Y-%m-%d %H:%M} to {until}" if start < end else f"before {until}, before the log starts"
    needed = f"{FEWEST_TRAINING_ROWS} {noun}, with and without," if name == "training" else f"{noun} with and without"
    return (
        f"the {name} part of {contract.source} ({when}) has {part.rows} {noun}, {part.rewards} of them with a"
        f" {contract.reward}; {needed} are needed. Land more days, or {_remedy(contract, name)} in"
        f" contracts/{contract.source}.yaml"
    )


def _remedy(contract: Contract, name: Part) -> str:
    validation, holdout = (f"split.{key} ({getattr(contract.split, key)})" for key in ("validation", "holdout"))
    if name == "training":
        return f"shorten maturity ({contract.maturity}), {validation} or {holdout}"
    return f"lengthen {validation if name == 'validation' else holdout}"


def _step(index: FrameIndex, *, days_joined: int) -> Step:
    """All days are its outputs, because a run that was killed has not recorded those that it joined."""
    metrics: dict[str, Any] = {"fingerprint": index.fingerprint, "landing_delay": str(index.landing_delay)}
    for name, part in index.parts.items():
        metrics[name] = {"rows": part.rows, "rewards": part.rewards}
    metrics |= {"days_joined": days_joined, "days_reused": len(index.days) - days_joined}
    return Step(name="frame", inputs=index.inputs, outputs=index.partitions, metrics=metrics, is_reused=not days_joined)
