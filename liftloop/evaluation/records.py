"""What an evaluation puts on record: `reports/<source>/evaluations/<until>.json`, one object, written last."""

from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, Field

from liftloop.evaluation.decision_value import DecisionValue
from liftloop.evaluation.kpi import Kpis
from liftloop.evaluation.rewards import Score
from liftloop.stats.control_chart import Shift, Signal
from liftloop.stats.interval import Interval
from liftloop.stats.scoring import ReliabilityBin
from liftloop.storage.frozen import Measured
from liftloop.storage.keys import evaluation_key

Health = Literal["healthy", "degraded", "no_champion", "no_new_data"]


class HourSums(Measured):
    """Sums over the impressions of one hour, each weighted by the impressions of the full log that it represents."""

    hour: AwareDatetime
    impressions: float
    rewards: float
    predicted: float  # rewards
    log_loss: float  # nats
    concordance: float  # rewards times the hour's area under the ROC curve; 0 without one
    ranked: float  # rewards in hours that have such an area


class ChampionScore(Measured):
    """The champion on the matured impressions."""

    version: str
    impressions: int  # scored
    score: Score
    calibration_ratio: Interval
    reliability: tuple[ReliabilityBin, ...]
    decisions: DecisionValue | None  # None where no propensities were logged
    hours: tuple[HourSums, ...] = ()


class Point(Measured):
    """A chart's last 24 hours before `until`, against the same hours of past weeks; no signal without enough days."""

    chart: str
    until: AwareDatetime
    shift: Shift
    signal: Signal | None


class Fault(Measured):
    """Why the champion is degraded."""

    name: str
    since: AwareDatetime
    words: str
    is_new: bool = True  # false: the evaluation before found it, too


class Late(Measured):
    """Impressions of windows that were evaluated before, in files that are new or changed since."""

    kind: Literal["new", "changed"]
    since: AwareDatetime
    until: AwareDatetime
    files: int
    impressions: int
    rewards: int
    kpis: dict[str, Kpis]


class Evaluation(Measured):
    """Impressions with `since` <= event time < `until`; times and figures are empty if there are no new impressions."""

    source: str
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    impressions: int = 0
    rewards: int = 0
    kpis: dict[str, Kpis] = Field(default_factory=dict)  # of all impressions, and by policy
    champion: ChampionScore | None = None
    points: tuple[Point, ...] = ()  # of the champion's charts: one per day of the window, the newest last
    faults: tuple[Fault, ...] = ()
    late: tuple[Late, ...] = ()
    late_hours: tuple[HourSums, ...] = ()  # of the champion, instead of those on record: they include what was late
    files: dict[str, str] = Field(default_factory=dict)  # of the lake, new or changed: etags by key; empty: it is gone
    newest_file: AwareDatetime | None = None  # when the newest one of the lake was written
    health: Health
    findings: tuple[str, ...]

    @property
    def key(self) -> str:
        """The object's key: keys sort by time, the newest last."""
        return evaluation_key(self.source, self.end)

    @property
    def end(self) -> datetime:
        """The end of its window."""
        assert self.until is not None  # an evaluation without new impressions is not written
        return self.until

    @property
    def version(self) -> str | None:
        """The champion's."""
        return self.champion.version if self.champion else None

    @property
    def announced(self) -> Health | None:
        """What automations hear of the champion; None of a fault that lasts, because the event starts a training."""
        is_news = not self.faults or any(fault.is_new for fault in self.faults)
        return self.health if self.champion and is_news else None
