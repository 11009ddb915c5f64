"""The charts of a champion on the evaluation's page: a table of the newest day, and a plot of the days before."""

from collections.abc import Sequence
from math import nan

from liftloop.evaluation.charts import CHARTS, Chart, days_before
from liftloop.evaluation.records import Evaluation, Point
from liftloop.reporting.html import Plot, Section, Table
from liftloop.reporting.plots import chart_plot

_COLUMNS = ["chart", "last 24 hours", "expected", "change", "day", "moving average", "limit", ""]
_NOTE = (
    "Expected is what the same hours of past weeks had, at the level of this version. The change in a day, the moving"
    " average of days within the limit, and the limit are in standard deviations of past days. One of the two beyond"
    " the limit is a fault, of the ranking only if it is below; a fault ends within half the limit."
)
_CAPTION = "Each day (points) and the moving average of days (line), as shares of their limits (dashed)."


def chart_sections(evaluation: Evaluation, earlier: Sequence[Evaluation]) -> list[Section]:
    """The table; and the plot, if there is a day to show."""
    trails = {chart.name: _trail(chart, evaluation, earlier) for chart in CHARTS}
    rows = [_row(chart, trails[chart.name], {fault.name for fault in evaluation.faults}) for chart in CHARTS]
    table = Table("Charts", _COLUMNS, rows, _NOTE)
    days = sorted({point.until for trail in trails.values() for point in trail if point.signal})
    if not days:
        return [table]
    shown = {name: {point.until: _shares(point) for point in trail} for name, trail in trails.items()}
    plotted = {name: [by_day.get(day, (nan, nan)) for day in days] for name, by_day in shown.items()}
    return [table, Plot("Course of the charts", chart_plot(days, plotted), _CAPTION)]


def _trail(chart: Chart, evaluation: Evaluation, earlier: Sequence[Evaluation]) -> list[Point]:
    """The version's points a day apart, oldest first, up to the evaluation's end."""
    points = [(each.version, point) for each in (*earlier, evaluation) for point in each.points]
    of_chart = [each for each in points if each[1].chart == chart.name]
    newest = [point for _, point in of_chart if point.until == evaluation.until]
    return [*reversed([*days_before(of_chart, evaluation.end, evaluation.version)]), *newest]


def _row(chart: Chart, trail: Sequence[Point], faults: set[str]) -> list[object]:
    if not trail or not trail[-1].signal:
        return [chart.name, *["–"] * 6, "too little on record"]
    shift, signal = trail[-1].shift, trail[-1].signal
    change = shift.observed / shift.expected - 1
    figures = [f"{shift.observed:{chart.spec}}", f"{shift.expected:{chart.spec}}", f"{change:+.1%}"]
    figures += [f"{signal.score:+.1f}", f"{signal.smoothed:+.1f}", f"{signal.limit:.1f}"]
    return [chart.name, *figures, "degraded" if chart.name in faults else "healthy"]


def _shares(point: Point) -> tuple[float, float]:
    return (
        (point.signal.score / point.signal.limit, point.signal.smoothed / point.signal.limit)
        if point.signal
        else (nan, nan)
    )
