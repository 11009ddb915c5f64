"""The charts of a champion: calibration, mean prediction and ranking, against the same hours of past weeks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

import numpy as np
import pandas as pd

from liftloop.evaluation.course import HISTORY, Charted, Course
from liftloop.evaluation.records import Fault, Point
from liftloop.stats.control_chart import SPAN_HOURS, Hourly, Signal, shift, signal

DAY = timedelta(hours=SPAN_HOURS)
_APART = DAY - timedelta(minutes=30)  # an evaluation ends at the newest impression, so a day apart is not to the minute
_CALM = 0.5  # share of the limit within which a fault ends, so that it does not come and go


@dataclass(frozen=True)
class Chart:
    """A ratio of two sums by hour."""

    name: str
    numerator: str
    denominator: str
    words: str
    spec: str  # of the ratio
    sides: tuple[int, ...] = (-1, 1)  # that are faults: below and above what is expected


CHARTS = (
    Chart("calibration", "rewards", "predicted", "Observed over predicted rewards", ".2f"),
    Chart("prediction", "predicted", "impressions", "The mean prediction", ".3%"),
    Chart("ranking", "concordance", "ranked", "The area under the ROC curve", ".3f", sides=(-1,)),
)


def chart_point(course: Course, chart: Chart, version: str, until: datetime, minimum_rewards: int) -> Point | None:
    """The 24 hours before `until`; None: they have too few rewards, or the version's past is under a day.

    The hours in which the chart had a fault are no past to compare with.
    """
    every = _hourly(course.hours, chart)
    is_known = (every.hour >= _hours(until - DAY - HISTORY)) & (every.hour < _hours(until))
    is_now = is_known & (every.hour >= _hours(until - DAY)) & (course.hours["version"] == version).to_numpy()
    if course.hours["rewards"].to_numpy()[is_now].sum() < minimum_rewards:
        return None
    is_past = is_known & (every.hour < _hours(_calm_until(course, chart, until)))
    for since, end in course.disturbed.get(chart.name, {}).items():
        is_past &= (every.hour < _hours(since)) | (every.hour >= _hours(end))
    found = shift(every.where(is_past), every.where(is_now))
    if found is None:
        return None
    points = course.points.get(chart.name, ())
    before = [point.shift for point in days_before(points, until, version)]
    undisturbed = [point.shift for point in days_before(points, until) if _is_undisturbed(course, point)]
    return Point(chart=chart.name, until=until, shift=found, signal=signal(found, before, undisturbed))


def chart_fault(course: Course, chart: Chart, version: str, point: Point) -> Fault | None:
    """The fault that a chart's newest point shows, or that has not ended; None: there is none, or no signal."""
    ongoing, found = course.ongoing.get(chart.name), point.signal
    share = _CALM if ongoing else 1.0
    sides = [side for side in chart.sides if found and found.is_beyond(side, share)]
    if not found or not sides:
        return None
    since = ongoing.since if ongoing else _begun(course, chart, version, point, sides[0])
    return Fault(name=chart.name, since=since, words=_words(chart, point, found), is_new=ongoing is None)


def _words(chart: Chart, point: Point, found: Signal) -> str:
    now = point.shift
    change = now.observed / now.expected - 1
    return (
        f"{chart.words} in the 24 hours before {point.until:%F %H:%M}: {now.observed:{chart.spec}}, {abs(change):.1%}"
        f" {'above' if change > 0 else 'below'} the {now.expected:{chart.spec}} of the same hours of past weeks:"
        f" {found.score:+.1f} standard deviations of a day, {found.smoothed:+.1f} in the moving average of days, with a"
        f" limit of {found.limit:.1f}."
    )


def _begun(course: Course, chart: Chart, version: str, point: Point, side: int) -> datetime:
    """The beginning of the days without break that lie on the alarm's side; of the newest alone if that suffices."""
    found = point.signal
    if found and side * found.score > found.limit:
        return point.until - DAY
    earlier = days_before(course.points.get(chart.name, ()), point.until, version)
    days = takewhile(lambda day: side * day.shift.value > 0, earlier)
    return min([point.until, *(day.until for day in days)]) - DAY


def _calm_until(course: Course, chart: Chart, until: datetime) -> datetime:
    ongoing = course.ongoing.get(chart.name)
    return min(until - DAY, ongoing.since) if ongoing else until - DAY


def _is_undisturbed(course: Course, point: Point) -> bool:
    spans = course.disturbed.get(point.chart, {})
    return all(point.until <= since or end <= point.until - DAY for since, end in spans.items())


def days_before(points: Sequence[Charted], until: datetime, version: str | None = None) -> Iterator[Point]:
    """Of a chart's points, oldest first, those one day ago, two days ago and so on: of one version, or of all."""
    for of_version, point in reversed(points):
        if point.until <= until - _APART and version in (None, of_version):
            yield point
            until = point.until


def _hourly(hours: pd.DataFrame, chart: Chart) -> Hourly:
    number = hours["hour"].to_numpy("datetime64[h]").astype(np.int64)
    series, _ = pd.factorize(hours["version"])
    return Hourly(number, series, *(hours[name].to_numpy() for name in (chart.numerator, chart.denominator)))


def _hours(time: datetime) -> float:
    """Since 1970."""
    return time.timestamp() / 3600
