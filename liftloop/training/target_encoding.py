"""Target encoding: each value's reward rate and number of occurrences in the training part.

Rates are shrunk towards the mean, as strongly as the column's own counts suggest (Micci-Barreca 2001, "A Preprocessing
Scheme for High-Cardinality Categorical Attributes"). The rate of a training row must not contain the row's own reward
(Prokhorenkova et al. 2018, "CatBoost: unbiased boosting with categorical features", section 3), so it comes from the
other folds. Folds and not an ordering by time or permutation: on real logs they predict better.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.special import xlogy

from liftloop.model.encoder import KNOWN_OCCURRENCES, KNOWN_VALUES, Encoder, Lookup, joint_codes
from liftloop.stats.columns import Floats
from liftloop.stats.shrinkage import prior_strength, shrunken_rates
from liftloop.training.frame import FOLDS, Part, TrainingFrame, folds_of

CROSSED_COLUMNS = 6  # with the highest information gain: any two of them may be crossed
MAXIMUM_CROSSES = 6


@dataclass(frozen=True, eq=False)
class TargetCounts:
    """Impressions and rewards by known value and fold, shape (values, FOLDS), of one text column or a pair."""

    columns: tuple[str, ...]
    codes: Floats  # ascending
    impressions: Floats
    rewards: Floats
    mean_rate: float

    @cached_property
    def strength(self) -> float:
        return prior_strength(self.impressions.sum(axis=1), self.rewards.sum(axis=1), self.mean_rate)

    def rates(self, without: int | None = None) -> Floats:
        """The shrunken rate of each value over all folds, or over all but one."""
        kept = [fold for fold in range(FOLDS) if fold != without]
        impressions, rewards = self.impressions[:, kept].sum(axis=1), self.rewards[:, kept].sum(axis=1)
        return shrunken_rates(impressions, rewards, self.mean_rate, self.strength)

    @cached_property
    def information_gain(self) -> float:
        """Total log likelihood gained, in nats, by predicting with out-of-fold rates instead of the mean rate."""
        predicted = np.column_stack([self.rates(without=fold) for fold in range(FOLDS)])
        return self._likelihood(predicted) - self._likelihood(np.full_like(predicted, self.mean_rate))

    def _likelihood(self, rates: Floats) -> float:
        return float((xlogy(self.rewards, rates) + xlogy(self.impressions - self.rewards, 1 - rates)).sum())


def fit_encoders(
    frame: TrainingFrame,
    parts: Sequence[Part],
    reward: str,
    text: Sequence[str],
    numbers: Sequence[str],
    presence: Sequence[str],
    negatives_kept: float,
    crosses: Sequence[tuple[str, ...]] | None = None,
) -> tuple[Encoder, ...]:
    """Encoders with every encoding of these columns, fitted on these parts; lookups by falling information gain.

    Args:
        crosses: the pairs of columns to cross; None chooses them by information gain.

    Returns:
        The encoder for rows outside these parts; then one for the training rows of each fold.
    """
    mean_rate = frame.index.together(parts).reward_rate(negatives_kept)

    def count(groups: Sequence[tuple[str, ...]]) -> list[pd.DataFrame]:
        return frame.target_counts(parts, reward, groups, KNOWN_OCCURRENCES)

    def target_counts(columns: tuple[str, ...], rows: pd.DataFrame) -> TargetCounts:
        return make_target_counts(encoder, columns, rows, mean_rate, negatives_kept)

    counted = dict(zip(text, count([(name,) for name in text]), strict=True))
    encoder = Encoder.fit({name: _occurrences(name, rows) for name, rows in counted.items()}, numbers, presence)
    singles = _by_information_gain(target_counts((name,), rows) for name, rows in counted.items())
    pairs = list(combinations([single.columns[0] for single in singles[:CROSSED_COLUMNS]], 2))
    wanted = pairs if crosses is None else crosses
    crossed = [target_counts(*each) for each in zip(wanted, count(wanted), strict=True)]
    return make_encoders(encoder, singles, choose_crosses(singles, crossed) if crosses is None else crossed)


def make_target_counts(
    encoder: Encoder, columns: tuple[str, ...], rows: pd.DataFrame, mean_rate: float, negatives_kept: float
) -> TargetCounts:
    """Rows of `TrainingFrame.target_counts` by code; unrewarded impressions are scaled by 1 / negatives_kept."""
    joint = joint_codes([encoder.codes(name, rows[name]) for name in columns])
    is_known = ~np.isnan(joint)
    codes, place = np.unique(joint[is_known], return_inverse=True)
    impressions, rewards = np.zeros((2, len(codes), FOLDS))
    at = place, rows["fold"].to_numpy()[is_known]
    rewards[at] = rows["rewards"].to_numpy()[is_known]
    impressions[at] = rewards[at] + (rows["impressions"].to_numpy()[is_known] - rewards[at]) / negatives_kept
    kept = np.sort(np.argsort(-impressions.sum(axis=1), kind="stable")[:KNOWN_VALUES])
    return TargetCounts(columns, codes[kept], impressions[kept], rewards[kept], mean_rate)


def choose_crosses(singles: Sequence[TargetCounts], crosses: Sequence[TargetCounts]) -> list[TargetCounts]:
    """The crosses that predict the rewards better than either of their columns, largest gain first."""
    gain = {single.columns[0]: single.information_gain for single in singles}
    added = {cross.columns: cross.information_gain - max(gain[name] for name in cross.columns) for cross in crosses}
    better = [cross for cross in crosses if added[cross.columns] > 0]
    return sorted(better, key=lambda cross: -added[cross.columns])[:MAXIMUM_CROSSES]


def make_encoders(
    encoder: Encoder, singles: Sequence[TargetCounts], crosses: Sequence[TargetCounts]
) -> tuple[Encoder, ...]:
    """The encoder with the lookups from these counts; then the encoder for the training rows of each fold."""
    known = encoder.model_dump(exclude={"lookups"})
    counts = {f"count({each.columns[0]})": _lookup(each, np.log1p(each.impressions.sum(axis=1))) for each in singles}

    def rates(fold: int | None) -> dict[str, Lookup]:
        return {f"rate({', '.join(each.columns)})": _lookup(each, each.rates(fold)) for each in (*singles, *crosses)}

    return tuple(Encoder(**known, lookups=rates(fold) | counts) for fold in (None, *range(FOLDS)))


def encode_out_of_fold(encoders: Sequence[Encoder], rows: pd.DataFrame) -> pd.DataFrame:
    """Training rows, each encoded by the encoder of its fold."""
    fold, coded = folds_of(rows), encoders[0].to_codes(rows)
    encoded = np.empty((len(rows), len(encoders[0].columns)), dtype=np.float32)
    for number, encoder in enumerate(encoders):
        encoded[fold == number] = encoder.to_features(coded[fold == number])
    return pd.DataFrame(encoded, index=rows.index, columns=encoders[0].columns)


def _occurrences(name: str, rows: pd.DataFrame) -> dict[str, int]:
    found = rows.groupby(name)["impressions"].sum()
    return dict(zip(found.index.astype(str), found.astype(int), strict=True))


def _by_information_gain(counts: Iterable[TargetCounts]) -> list[TargetCounts]:
    """The counts of columns with at least one known value, by falling information gain."""
    return sorted((each for each in counts if len(each.codes)), key=lambda each: -each.information_gain)


def _lookup(counts: TargetCounts, values: Floats) -> Lookup:
    return Lookup(columns=counts.columns, codes=tuple(counts.codes.astype(int).tolist()), values=tuple(values.tolist()))
