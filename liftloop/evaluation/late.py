"""What reaches the lake after its window was evaluated: impressions in new files, and in files that changed.

Each evaluation records the files that it is the first to see, so that together the evaluations of the newest weeks name
what they rest on, and none lists it all.
"""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Literal, NamedTuple

from liftloop.evaluation.course import HISTORY
from liftloop.evaluation.kpi import KPI_COLUMNS, kpis_by_policy
from liftloop.evaluation.records import Evaluation, Late
from liftloop.lake.days import by_day
from liftloop.lake.landed import landed_file_of, object_id_in
from liftloop.lake.matured import Window
from liftloop.reporting.words import counted

MAX_LATE_ROWS = 300_000  # of more, the KPIs are those of a sample, so that they fit in memory
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_WORDS = {"new": ("Evaluated late", "landed"), "changed": ("Evaluated again", "changed")}


class _Seen(NamedTuple):
    """One version of a file of the lake."""

    key: str
    etag: str


@dataclass(frozen=True, eq=False)
class Arrivals:
    """The files of a window's lake that the evaluations on record, oldest first, have not seen."""

    window: Window
    evaluations: Sequence[Evaluation]

    @cached_property
    def since(self) -> datetime:
        """The time from which all files are on record; what happened before is not evaluated late."""
        starts = [each.since for each in self.evaluations if each.files and each.since]
        if not starts:
            return self.window.since
        first_midnight = (self.evaluations[-1].end - HISTORY + _DAY).replace(hour=0, minute=0, second=0, microsecond=0)
        return max(first_midnight, min(starts))

    @cached_property
    def files(self) -> dict[str, str]:
        """The etags of the files seen first, by key, and an empty one for each file that is gone."""
        gone = {item.key for item in self._known} - {item.key for item in self._current}
        return dict.fromkeys(sorted(gone), "") | {item.key: item.etag for item in self._new}

    @property
    def newest_file(self) -> datetime:
        """When the newest file of the lake was written."""
        return max(item.modified for item in self.window.lake.files)

    @cached_property
    def late(self) -> dict[Literal["new", "changed"], Window]:
        """The impressions of evaluated windows in unseen files; a changed file has replaced one on record."""
        replaced = {landed_file_of(object_id_in(item.key)) for item in self._known}
        span = replace(self.window, since=self.since, until=self.window.since)
        changed = {item.key for item in self._new if landed_file_of(object_id_in(item.key)) in replaced}
        keys: dict[Literal["new", "changed"], set[str]]
        keys = {"new": {item.key for item in self._new} - changed, "changed": changed} if self._known else {}
        parts = {kind: replace(span, only=frozenset(each)) for kind, each in keys.items()}
        return {kind: part for kind, part in parts.items() if part.keys and part.count()[0]}

    def evaluated(self) -> tuple[Late, ...]:
        """The KPIs of the late impressions."""
        return tuple(_evaluate(kind, window) for kind, window in self.late.items())

    def spans(self, scored: Container[datetime]) -> list[Window]:
        """All impressions, late or not, of those scored hours that have late ones, as spans without a gap."""
        spans: list[Window] = []
        affected = {hour for window in self.late.values() for hour in window.hours()}
        for hour in sorted(hour for hour in affected if hour in scored):
            until = min(hour + _HOUR, self.window.since)
            if spans and spans[-1].until == hour:
                spans[-1] = replace(spans[-1], until=until)
            else:
                spans.append(replace(self.window, since=hour, until=until))
        return spans

    @property
    def losses(self) -> tuple[str, ...]:
        """Sentences on what earlier evaluations show and the lake holds no more, and on what is too old to evaluate."""
        prefixes = {landed_file_of(object_id_in(item.key)) for item in self._current}
        gone = [
            key for key, etag in self.files.items() if not etag and landed_file_of(object_id_in(key)) not in prefixes
        ]
        last = self.evaluations[-1].newest_file if self.evaluations else None
        old = [item for day, files in self.window.lake.by_day().items() if day < self.since.date() for item in files]
        late = [item for item in old if last and item.modified > last]
        words = []
        if gone:
            words.append(f"{counted(len(gone), 'file')} left the lake; evaluations on record still include them.")
        if late:
            arrived = f"{counted(len(late), 'file')} of days before {self.since:%F} arrived or changed since"
            words.append(f"{arrived} the last evaluation: too late to be evaluated.")
        return tuple(words)

    @cached_property
    def _known(self) -> list[_Seen]:
        """The files on record of the days from `since` on, but for those that are gone."""
        etags = {key: etag for each in self.evaluations for key, etag in each.files.items()}
        return self._recent(_Seen(key, etag) for key, etag in etags.items() if etag)

    @cached_property
    def _current(self) -> list[_Seen]:
        return self._recent(_Seen(item.key, item.etag) for item in self.window.lake.files)

    @cached_property
    def _new(self) -> list[_Seen]:
        known = set(self._known)
        return [item for item in self._current if item not in known]

    def _recent(self, files: Iterable[_Seen]) -> list[_Seen]:
        first, last = self.since.date(), self.window.last_day
        return [item for day, items in by_day(files).items() if first <= day <= last for item in items]


def _evaluate(kind: Literal["new", "changed"], window: Window) -> Late:
    impressions, rewards = window.count()
    return Late(
        kind=kind,
        since=window.hours()[0],
        until=window.hours()[-1] + _HOUR,
        files=len(window.keys),
        impressions=impressions,
        rewards=rewards,
        kpis=kpis_by_policy(window.contract, window.read(list(KPI_COLUMNS), limit=MAX_LATE_ROWS)),
    )


def late_words(reward: str, late: Late) -> str:
    """One sentence: how many impressions, and why they were not evaluated with their window."""
    evaluated, arrived = _WORDS[late.kind]
    return (
        f"{evaluated}: {counted(late.impressions, 'impression')} with {counted(late.rewards, reward)}, from"
        f" {late.since:%F %H:%M} to {late.until:%F %H:%M}, in {counted(late.files, 'file')} that {arrived} after that"
        " was evaluated."
    )
