"""Objects by the UTC day of their partition."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Protocol, TypeVar

_DAY_IN_KEY = re.compile(r"/date=(\d{4}-\d{2}-\d{2})/")


class Source(Protocol):
    """One version of an object."""

    @property
    def key(self) -> str: ...

    @property
    def etag(self) -> str: ...


_Source = TypeVar("_Source", bound=Source)


def by_day(items: Iterable[_Source]) -> dict[date, list[_Source]]:
    """Objects by the day of their partition; objects outside a partition are left out."""
    found: dict[date, list[_Source]] = defaultdict(list)
    for item in items:
        if match := _DAY_IN_KEY.search(item.key):
            found[date.fromisoformat(match[1])].append(item)
    return found


def looking_back(objects: Mapping[date, Sequence[_Source]], days: int) -> dict[date, tuple[_Source, ...]]:
    """For each day up to the newest: its own objects and the ones of the preceding `days` days."""
    steps = [timedelta(days=number) for number in range(days + 1)]
    newest = max(objects, default=date.min)
    reached = sorted({day + step for day in objects for step in steps if day + step <= newest})
    return {day: tuple(item for step in steps for item in objects.get(day - step, ())) for day in reached}
