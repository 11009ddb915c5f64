"""The course of a source's evaluations: hours, chart points, faults and decisions on record, of the newest weeks."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from liftloop.evaluation.decision_value import DecisionValue
from liftloop.evaluation.hours import SUMS
from liftloop.evaluation.records import Evaluation, Fault, HourSums, Point
from liftloop.stats.columns import Floats
from liftloop.storage.keys import evaluation_key, evaluations_prefix
from liftloop.storage.store import Store, concurrently

HISTORY = timedelta(weeks=5)
Charted = tuple[str | None, Point]  # with the version of the champion


@dataclass(frozen=True, eq=False)
class Course:
    """What is on record up to the newest evaluation."""

    hours: pd.DataFrame  # hour (UTC), version and SUMS, by hour
    points: Mapping[str, Sequence[Charted]] = field(default_factory=dict)  # by chart, oldest first
    disturbed: Mapping[str, Mapping[datetime, datetime]] = field(
        default_factory=dict
    )  # faults by chart, from when to when
    ongoing: Mapping[str, Fault] = field(default_factory=dict)  # of the newest evaluation, by name
    decisions: Sequence[tuple[datetime, DecisionValue]] = ()  # with the end of their window

    @classmethod
    def of(cls, earlier: Sequence[Evaluation], newest: Evaluation) -> "Course":
        """The course of earlier evaluations, oldest first, and of one whose champion is scored and not yet judged."""
        points: dict[str, list[Charted]] = defaultdict(list)
        disturbed: dict[str, dict[datetime, datetime]] = defaultdict(dict)
        for each in earlier:
            for point in each.points:
                points[point.chart].append((each.version, point))
            for fault in each.faults:
                disturbed[fault.name][fault.since] = each.end
        is_continued = bool(earlier) and earlier[-1].version == newest.version
        ongoing = {fault.name: fault for fault in earlier[-1].faults} if is_continued else {}
        scored = [(each.end, each.champion) for each in (*earlier, newest) if each.version == newest.version]
        decisions = [(end, champion.decisions) for end, champion in scored if champion and champion.decisions]
        return cls(hours_on_record([*earlier, newest]), points, disturbed, ongoing, decisions)


def read_evaluations(store: Store, source: str) -> list[Evaluation]:
    """The evaluations of the newest weeks on record, oldest first."""
    keys = sorted(item.key for item in store.list(evaluations_prefix(source)))
    if not keys:
        return []
    newest = _read(store, keys[-1])
    oldest = evaluation_key(source, newest.end - HISTORY)
    return [*concurrently(lambda key: _read(store, key), [key for key in keys[:-1] if key >= oldest]), newest]


def _read(store: Store, key: str) -> Evaluation:
    return Evaluation.model_validate_json(store.get(key))


def hours_on_record(evaluations: Iterable[Evaluation]) -> pd.DataFrame:
    """The hours of all champions: those of later windows are added, and late ones replace what was on record."""
    found: dict[tuple[datetime, str | None], Floats] = {}
    for each in evaluations:
        found |= {(late.hour, each.version): _sums(late) for late in each.late_hours}
        for hour in each.champion.hours if each.champion else ():
            key = (hour.hour, each.version)
            found[key] = found.get(key, 0.0) + _sums(hour)
    hours, versions = [hour for hour, _ in found], [version for _, version in found]
    table = pd.DataFrame(np.reshape([*found.values()], (len(found), len(SUMS))), columns=[*SUMS])
    times = pd.to_datetime(pd.Series(hours, dtype=object), utc=True)
    return table.assign(hour=times, version=pd.Series(versions, dtype=object)).sort_values("hour", ignore_index=True)


def _sums(hour: HourSums) -> Floats:
    return np.array([getattr(hour, name) for name in SUMS])
