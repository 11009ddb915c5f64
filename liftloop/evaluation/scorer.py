"""A champion's predictions and decisions on impressions, as figures and as sums by hour."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import pandas as pd

from liftloop.decisions.candidates import pair_columns
from liftloop.evaluation.decision_value import DecisionValue, decide, decision_value
from liftloop.evaluation.hours import hour_sums
from liftloop.evaluation.logged_candidates import competing_ads
from liftloop.evaluation.records import ChampionScore, HourSums
from liftloop.evaluation.rewards import RewardSample
from liftloop.features.definitions import LONGEST_WINDOW
from liftloop.features.lookup import historical_features
from liftloop.lake.matured import Window
from liftloop.registry.timeline import Timeline
from liftloop.stats.scoring import reliability_table

MAX_SCORED_ROWS = 300_000  # above it a sample is scored, so that the features fit in memory


@dataclass(frozen=True, eq=False)
class Scorer:
    """The champion's models, on the impressions of a window; none was fitted on those that it predicts."""

    window: Window
    models: Timeline

    def score(self, version: str, impressions: int) -> ChampionScore | None:
        """The champion on the window's impressions, or on a sample of them; `impressions` is the number of all.

        None: it was fitted on all but impressions with one kind of reward.
        """
        rows = self.window.read(list(self.window.contract.column_types), limit=MAX_SCORED_ROWS)
        rows = rows[rows["event_timestamp"] >= self.models.since].reset_index(drop=True)
        sample = self._sample(rows)
        if not sample.has_both:
            return None
        rows = self._with_features(rows)
        probability = self.models.predict(rows)
        return ChampionScore(
            version=version,
            impressions=len(rows),
            score=sample.score(probability),
            calibration_ratio=sample.calibration_ratio(probability),
            reliability=tuple(reliability_table(sample.reward, probability, weight=sample.weight)),
            decisions=self._decisions(rows),
            hours=hour_sums(rows["event_timestamp"], sample, probability, represented=impressions),
        )

    def hours(self, spans: Sequence[Window]) -> tuple[HourSums, ...]:
        """The sums by hour of other windows' impressions, or of a sample of them."""
        if not spans:
            return ()
        counts, columns = [span.count()[0] for span in spans], list(self.window.contract.column_types)
        share = min(1.0, MAX_SCORED_ROWS / sum(counts))
        parts = [span.read(columns, limit=ceil(share * count)) for span, count in zip(spans, counts, strict=True)]
        rows = self._with_features(pd.concat(parts, ignore_index=True))
        sample, probability = self._sample(rows), self.models.predict(rows)
        return hour_sums(rows["event_timestamp"], sample, probability, represented=sum(counts))

    def _with_features(self, rows: pd.DataFrame) -> pd.DataFrame:
        return historical_features(self.window.store, self.window.contract, rows)

    def _sample(self, rows: pd.DataFrame) -> RewardSample:
        contract = self.window.contract
        return RewardSample.of(contract, rows, rows[contract.reward].to_numpy(dtype=np.float64))

    def _decisions(self, rows: pd.DataFrame) -> DecisionValue | None:
        reads_pairs = any(pair_columns(self.window.contract, model) for model, _ in self.models.by_time(rows))
        if reads_pairs or not rows["propensity"].notna().any():
            return None
        store, contract = self.window.store, self.window.contract
        ads = competing_ads(store, contract, self.window.keys_since(LONGEST_WINDOW))
        return decision_value(contract, decide(store, contract, self.models, ads, rows))
