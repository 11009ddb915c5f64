"""Paired comparison of two versions on impressions that neither was trained on, overall and by slice."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liftloop.contract.contract import Contract
from liftloop.errors import UserError
from liftloop.evaluation.rewards import MINIMUM_DAYS, RewardSample, Score
from liftloop.gate.checks.slices import MINIMUM_SLICE_REWARDS
from liftloop.registry.registry import Registry
from liftloop.registry.timeline import Timeline
from liftloop.registry.versions import ModelVersion
from liftloop.stats.columns import Floats
from liftloop.stats.interval import Interval
from liftloop.storage.store import Store
from liftloop.training.frame import TrainingFrame, open_frame

SLICES_COMPARED = 10  # of each column: the slices with the most rewards


class ComparisonError(UserError):
    """Two versions cannot be compared; the message says why."""


@dataclass(frozen=True)
class Compared:
    """Both versions on some impressions. `loss_reduction`: relative reduction of the second's log loss by the first."""

    name: str
    impressions: int
    rewards: int
    first: Score
    second: Score
    loss_reduction: Interval


@dataclass(frozen=True)
class Comparison:
    """Impressions with `since` <= event time < `until`; `rows`: all of them, then slices with enough rewards."""

    first: ModelVersion
    second: ModelVersion
    since: datetime
    until: datetime
    rows: tuple[Compared, ...]
    has_few_days: bool

    @property
    def words(self) -> str:
        """The conclusion in one sentence."""
        if self.has_few_days:
            return f"Fewer than {MINIMUM_DAYS} days do not tell whether {self.first.version} is better."
        reduction = self.rows[0].loss_reduction
        if reduction.low <= 0 <= reduction.high:
            return f"No significant difference between {self.first.version} and {self.second.version}."
        better, worse = (self.first, self.second) if reduction.low > 0 else (self.second, self.first)
        return f"{better.version} is better than {worse.version}."


def compare(store: Store, contract: Contract, first: ModelVersion, second: ModelVersion) -> Comparison:
    """The paired difference on impressions of the newest hold-out that neither version was trained or calibrated on.

    Raises:
        ComparisonError: the versions are the same or predict different rewards; a training frame is gone; there are
            too few rewards; a column is missing.
        RegistryError: a blob is missing or changed.
    """
    if first.version == second.version or first.reward != second.reward:
        same = "the same version" if first.version == second.version else "models of different rewards"
        raise ComparisonError(f"{first.version} and {second.version} are {same}: name two comparable versions")
    timelines = [Timeline.load(store, version) for version in (first, second)]
    trained_until = max(each.since for each in timelines)
    frame = _newest_frame(store, contract.source)
    rows = frame.holdout[frame.holdout["event_timestamp"] >= trained_until].reset_index(drop=True)
    reward = rows[first.reward].to_numpy(dtype=np.float64)
    if not MINIMUM_SLICE_REWARDS <= reward.sum() < len(reward):
        raise ComparisonError(
            f"{reward.sum():.0f} {first.reward}s in {len(reward)} impressions since {trained_until:%F %T} are too few:"
            f" {MINIMUM_SLICE_REWARDS} are needed; wait until more have matured"
        )
    paired = _Paired(RewardSample.of(contract, rows, reward), *(_predict(each, rows) for each in timelines))
    if missing := sorted(set(contract.gate.slices) - set(rows)):
        raise ComparisonError(f"the newest hold-out has no {missing}, which gate.slices names: train again")
    overall = paired.on("all", np.ones(len(rows), dtype=np.bool_))
    slices = [each for column in contract.gate.slices for each in _slices(paired, rows[column])]
    holdout = frame.index.parts["holdout"]
    since, has_few_days = max(trained_until, holdout.start), paired.sample.has_few_days
    return Comparison(first, second, since, holdout.end, (overall, *slices), has_few_days)


@dataclass(frozen=True)
class _Paired:
    sample: RewardSample
    first: Floats
    second: Floats

    def on(self, name: str, is_member: NDArray[np.bool_]) -> Compared:
        """Both versions on the rows of one slice; `is_member` has shape (rows,)."""
        sample, first, second = self.sample.where(is_member), self.first[is_member], self.second[is_member]
        scores = sample.score(first), sample.score(second)
        return Compared(name, len(first), sample.rewards, *scores, sample.loss_reduction(first, second))


def _slices(paired: _Paired, values: "pd.Series[str]") -> list[Compared]:
    """The slices with enough rewards, the ones with the most rewards first."""
    by_value = pd.Series(paired.sample.reward).groupby(values.to_numpy()).agg(["sum", "size"])
    enough = by_value[(by_value["sum"] >= MINIMUM_SLICE_REWARDS) & (by_value["sum"] < by_value["size"])]
    most = enough.sort_values("sum", ascending=False, kind="stable").index[:SLICES_COMPARED]
    return [paired.on(f"{values.name} {value}", (values == value).to_numpy()) for value in most]


def _newest_frame(store: Store, source: str) -> TrainingFrame:
    """The frame with the newest hold-out, among the training frames of all versions."""
    fingerprints = {version.frame_fingerprint for version in Registry(store, source).versions()}
    frames = [frame for each in sorted(fingerprints) if (frame := open_frame(store, source, each))]
    return max(frames, key=lambda frame: frame.index.parts["holdout"].end)


def _predict(timeline: Timeline, rows: pd.DataFrame) -> Floats:
    try:
        return timeline.predict(rows)
    except ValueError as error:  # the contract's columns changed between the two versions
        raise ComparisonError(f"the newest hold-out cannot be scored: {error}") from None
