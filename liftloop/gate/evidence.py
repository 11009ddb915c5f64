"""The evidence that checks read."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import chain

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liftloop.contract.contract import Contract
from liftloop.decisions.candidates import pair_columns
from liftloop.errors import UserError
from liftloop.evaluation.decision_value import decide, decide_precisely
from liftloop.evaluation.logged_candidates import competing_ads
from liftloop.evaluation.rewards import RewardSample, Score
from liftloop.gate.baselines import ad_counts, earnings_ranks, mean_rate, per_ad
from liftloop.gate.checks.arms import arm_table
from liftloop.gate.checks.groups import group_table
from liftloop.gate.checks.inputs import data_lag
from liftloop.gate.checks.readiness import FreshRun, run_in_fresh_process
from liftloop.gate.verdict import ArmRow, GroupRow
from liftloop.model.model import Model
from liftloop.registry.registry import Registry
from liftloop.registry.timeline import Timeline
from liftloop.registry.versions import ModelVersion
from liftloop.stats.columns import Floats
from liftloop.stats.shrinkage import smoothed_rates
from liftloop.storage.store import Store
from liftloop.training.clicked import clicked_frame
from liftloop.training.frame import TrainingFrame, open_frame


class GateError(UserError):
    """A version cannot be judged; the message says what is missing and how to get it."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """One version, the hold-out of the frame it was trained on, and its baselines; each computed on first use."""

    store: Store
    contract: Contract
    version: ModelVersion
    champion: ModelVersion | None  # None, too, if the version itself is the champion
    champion_since: datetime | None = None

    @cached_property
    def frame(self) -> TrainingFrame:
        frame = open_frame(self.store, self.contract.source, self.version.frame_fingerprint)
        if frame is None:
            raise GateError(f"the training frame of {self.version.version} is gone; run the train flow again")
        return frame

    @cached_property
    def holdout(self) -> pd.DataFrame:
        return self.frame.holdout

    @cached_property
    def sample(self) -> RewardSample:
        return RewardSample.of(
            self.contract, self.holdout, self.holdout[self.contract.reward].to_numpy(dtype=np.float64)
        )

    @property
    def model(self) -> Model:
        """The one that is served."""
        return self.timeline.served

    @cached_property
    def timeline(self) -> Timeline:
        """The version's models, each for the judged day after those that it was fitted on."""
        return Timeline.load(self.store, self.version)

    @cached_property
    def probability(self) -> Floats:
        return self.timeline.predict(self.holdout)

    @cached_property
    def constant(self) -> Floats:
        return self._by_day(lambda frame, rows: np.full(len(rows), mean_rate(self.contract, frame)))

    @cached_property
    def ad_rate(self) -> Floats:
        def rates(frame: TrainingFrame, rows: pd.DataFrame) -> Floats:
            rate = mean_rate(self.contract, frame)
            return per_ad(rows["ad_id"], smoothed_rates(ad_counts(self.contract, frame), rate), rate)

        return self._by_day(rates)

    def _by_day(self, predict: Callable[[TrainingFrame, pd.DataFrame], Floats]) -> Floats:
        """Predictions of each judged day from the frame of the days before it, shape (rows,)."""
        found, times = np.full(len(self.holdout), np.nan), self.holdout["event_timestamp"]
        for day in self.frame.index.judged_days:
            is_judged = ((times >= day.start) & (times < day.end)).to_numpy()
            found[is_judged] = predict(self.frame.until(day.start), self.holdout[is_judged])
        return found

    @property
    def champion_version(self) -> str | None:
        return self.champion.version if self.champion else None

    @cached_property
    def champion_timeline(self) -> Timeline:
        assert self.champion is not None  # only read if there is one
        return Timeline.load(self.store, self.champion)

    @cached_property
    def champion_probability(self) -> Floats:
        """NaN where it is not new to the champion."""
        return self.champion_timeline.predict(self.holdout)

    @cached_property
    def is_new_to_champion(self) -> NDArray[np.bool_]:
        """Whether a model of the champion was not fitted on a row of the hold-out, shape (rows,)."""
        return np.asarray(self.holdout["event_timestamp"] >= self.champion_timeline.since)

    @property
    def look(self) -> int:
        """How many versions were trained since the champion's promotion, up to this one: each is a look at it."""
        if self.champion_since is None:
            return 1
        others = (each.created_at for each in Registry(self.store, self.contract.source).versions())
        return 1 + sum(self.champion_since < created_at < self.version.created_at for created_at in others)

    @cached_property
    def fresh(self) -> FreshRun:
        return run_in_fresh_process(self.store, self.version, self.holdout)

    @cached_property
    def data_lag(self) -> pd.Timedelta:
        return data_lag(self.store, self.contract, self.frame.index)

    @cached_property
    def of_clicked(self) -> "ClickedEvidence":
        """The evidence on P(conversion | click), of a version that predicts it."""
        return ClickedEvidence(self.store, self.contract.of_clicked, self.version, self.champion, self.champion_since)

    @property
    def has_propensities(self) -> bool:
        return bool(self.holdout["propensity"].notna().any())

    @cached_property
    def _as_trained(self) -> Contract:
        """With the landing delay of the frame, so that all candidates have features as old as the logged one's."""
        return self.frame.index.landing_delay.pinned(self.contract)

    @cached_property
    def decided(self) -> pd.DataFrame:
        """The impressions of the hold-out with a propensity, if there is a champion those that are new to it."""
        rows = self.holdout if self.champion is None else self.holdout[self.is_new_to_champion]
        return rows[rows["propensity"].notna()]

    @cached_property
    def pair_columns(self) -> list[str]:
        """The columns about request and ad together that the model reads: with one, its decisions have no value."""
        return pair_columns(self.contract, self.model)

    @cached_property
    def champion_pair_columns(self) -> list[str]:
        """Those that the champion reads."""
        return pair_columns(self.contract, self.champion_timeline.served)

    @cached_property
    def decisions(self) -> pd.DataFrame:
        """Decisions of the version's policy on these impressions, or on as many of them as needed."""
        return decide_precisely(self.store, self._as_trained, self.timeline, self._ads, self.decided)

    @cached_property
    def champion_decisions(self) -> pd.DataFrame | None:
        """Those of the champion's policy on the same impressions; None: there is no champion, or they have no value."""
        if self.champion is None or self.champion_pair_columns:
            return None
        rows = self.decided[self.decided["impression_id"].isin(self.decisions["impression_id"])]
        return decide(self.store, self._as_trained, self.champion_timeline, self._ads, rows, max_expanded_rows=2**62)

    @cached_property
    def _ads(self) -> pd.DataFrame:
        keys = [ref.key for ref in self.frame.index.partitions]
        ads = competing_ads(self.store, self.contract, keys)
        return ads.assign(earnings_rank=earnings_ranks(self.contract, self.frame, ads))

    def arms(self) -> tuple[ArmRow, ...]:
        """What always showing one ad is worth, in the largest places with few ads."""
        has_none = not self.has_propensities or self.decided.empty or self.pair_columns
        return () if has_none else arm_table(self.contract, self._ads, self.decisions)

    def groups(self) -> tuple[GroupRow, ...]:
        """The fairness table of the contract's groups, and the same figures of its slices."""
        columns = dict.fromkeys([*self.contract.gate.groups, *self.contract.gate.slices])
        tables = [
            group_table(self.sample, self.probability, self.holdout[name], self._policy_probability())
            for name in columns
        ]
        return tuple(chain(*tables))

    def _policy_probability(self) -> "pd.Series[float] | None":
        """P(logged ad) under the version's policy, by position in the hold-out, for the impressions it decides on."""
        if self.decided.empty or self.pair_columns:
            return None
        position = pd.Index(self.holdout["impression_id"]).get_indexer(pd.Index(self.decisions["impression_id"]))
        return pd.Series(self.decisions["target_probability"].to_numpy(), index=position)

    def scores(self) -> dict[str, Score]:
        """Scores on the hold-out, by predictor."""
        predictions: dict[str, Callable[[], Floats]] = {
            "model": lambda: self.probability,
            "constant": lambda: self.constant,
            "per-ad rate": lambda: self.ad_rate,
        }
        scores = {}
        for name, predict in predictions.items():
            with suppress(Exception):  # a check fails with the same error and reports it
                scores[name] = self.sample.score(predict())
        with suppress(Exception):
            if self.champion:
                is_new = self.is_new_to_champion
                scores["champion"] = self.sample.where(is_new).score(self.champion_probability[is_new])
        return scores


@dataclass(frozen=True, eq=False)
class ClickedEvidence(Evidence):
    """The clicked impressions of the hold-out, and what is predicted of their conversions."""

    @cached_property
    def frame(self) -> TrainingFrame:
        return clicked_frame(self.contract, super().frame)

    @cached_property
    def timeline(self) -> Timeline:
        return super().timeline.map(_of_conversions)

    @cached_property
    def champion_timeline(self) -> Timeline:
        return super().champion_timeline.map(_of_conversions)

    @property
    def champion_version(self) -> str | None:
        return super().champion_version if self.champion and self.champion.conversion else None


def _of_conversions(model: Model) -> Model:
    assert model.conversion is not None  # only read if there is one
    return model.conversion
