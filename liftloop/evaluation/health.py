"""A champion's health: its faults by charts, bounds and decisions, and what they say."""

from dataclasses import dataclass, replace
from datetime import datetime

from liftloop.contract.contract import Contract
from liftloop.evaluation.bounds import bound_faults, decision_fault
from liftloop.evaluation.charts import CHARTS, DAY, chart_fault, chart_point
from liftloop.evaluation.course import Course
from liftloop.evaluation.records import Fault, Health, Point
from liftloop.stats.control_chart import MINIMUM_DAYS


@dataclass(frozen=True)
class Judgement:
    """A champion's health at the end of a window, with the points of its charts and its faults."""

    points: tuple[Point, ...]
    faults: tuple[Fault, ...]

    @property
    def health(self) -> Health:
        return "degraded" if self.faults else "healthy"

    @property
    def findings(self) -> tuple[str, ...]:
        """A sentence or two on each fault, or why there is none."""
        if self.faults:
            return tuple(f"{fault.words} {_since(fault)}" for fault in self.faults)
        silent = {chart.name for chart in CHARTS} - {point.chart for point in self.points if point.signal}
        within = "Predictions and decisions are within bounds"
        if not silent:
            return (f"{within}, and as in the same hours of past weeks.",)
        needs = f"needs {MINIMUM_DAYS} earlier days, each compared with those of its version before it"
        return (f"{within}.", f"There is not enough on record yet to chart {', '.join(sorted(silent))}: that {needs}.")


def judge_health(contract: Contract, course: Course, version: str, since: datetime, until: datetime) -> Judgement:
    """Judge the champion at the end of a window whose hours and decisions are in the course.

    Args:
        course: of the evaluations before this one, and of this one.
    """
    policy, points = contract.gate, _points(contract, course, version, since, until)
    newest = {point.chart: point for point in points if point.until == until}
    charts = [chart_fault(course, chart, version, newest[chart.name]) for chart in CHARTS if chart.name in newest]
    bounds = bound_faults(policy, course, version, until, contract.training.seed)
    found = [*charts, *bounds, decision_fault(policy, course, until)]
    return Judgement(tuple(points), tuple(fault for fault in found if fault))


def _points(contract: Contract, course: Course, version: str, since: datetime, until: datetime) -> list[Point]:
    """One point per chart for each whole day back from the window's end that ends in it, oldest first."""
    found: list[Point] = []
    days = max((until - since) // DAY, 1)
    for end in (until - number * DAY for number in reversed(range(days))):
        points = [chart_point(course, chart, version, end, contract.gate.minimum_rewards) for chart in CHARTS]
        found += (new := [point for point in points if point])
        charted = {chart.name: course.points.get(chart.name, ()) for chart in CHARTS}
        for point in new:
            charted[point.chart] = [*charted[point.chart], (version, point)]
        course = replace(course, points=charted)
    return found


def _since(fault: Fault) -> str:
    return f"{'Since' if fault.is_new else 'This lasts since'} {fault.since:%F %H:%M}."
