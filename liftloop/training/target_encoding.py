"""Target encoding: what the training part says of each value's reward rate, and of how often it occurs.

A rate is drawn towards the mean as its column's own values call for (Micci-Barreca 2001, "A Preprocessing Scheme for
High-Cardinality Categorical Attributes"). A row that a model learns from must not meet its own reward in a rate
(Prokhorenkova et al. 2018, "CatBoost: unbiased boosting with categorical features", section 3): it gets the rate of the
other folds. Folds rather than their ordering by time or permutation: on real logs they predicted better.
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

CROSSED_COLUMNS = 6  # the strongest: any two of them may be crossed
MAXIMUM_CROSSES = 6


@dataclass(frozen=True, eq=False)
class Tally:
    """Impressions and rewards of each known value, shape (values, FOLDS), of one text column or of two together."""

    columns: tuple[str, ...]
    codes: Floats  # ascending
    impressions: Floats
    rewards: Floats
    mean_rate: float

    @cached_property
    def strength(self) -> float:
        return prior_strength(self.impressions.sum(axis=1), self.rewards.sum(axis=1), self.mean_rate)

    def rates(self, without: int | None = None) -> Floats:
        """The rate of each value in all folds, or in all but one."""
        kept = [fold for fold in range(FOLDS) if fold != without]
        impressions, rewards = self.impressions[:, kept].sum(axis=1), self.rewards[:, kept].sum(axis=1)
        return shrunken_rates(impressions, rewards, self.mean_rate, self.strength)

    @cached_property
    def signal(self) -> float:
        """How many nats the rates of the other folds foretell the rewards better than the mean rate does, in sum."""
        foretold = np.column_stack([self.rates(without=fold) for fold in range(FOLDS)])
        return self._likelihood(foretold) - self._likelihood(np.full_like(foretold, self.mean_rate))

    def _likelihood(self, rates: Floats) -> float:
        return float((xlogy(self.rewards, rates) + xlogy(self.impressions - self.rewards, 1 - rates)).sum())


def learn_encoders(
    frame: TrainingFrame,
    parts: Sequence[Part],
    reward: str,
    text: Sequence[str],
    numbers: Sequence[str],
    presence: Sequence[str],
    negatives_kept: float,
    crosses: Sequence[tuple[str, ...]] | None = None,
) -> tuple[Encoder, ...]:
    """Every encoding of these columns, from these parts alone, the strongest lookups of a kind first.

    Args:
        crosses: the pairs of columns to take together; None: those that tell more together.

    Returns:
        The encoder for rows that its rates were not learned from; then one for the rows of each fold that they were.
    """
    mean_rate = frame.reward_rate(parts, negatives_kept)

    def count(groups: Sequence[tuple[str, ...]]) -> list[pd.DataFrame]:
        return frame.tallies(parts, reward, groups, KNOWN_OCCURRENCES)

    def tally(columns: tuple[str, ...], rows: pd.DataFrame) -> Tally:
        return make_tally(encoder, columns, rows, mean_rate, negatives_kept)

    counted = dict(zip(text, count([(name,) for name in text]), strict=True))
    encoder = Encoder.fit({name: _occurrences(name, rows) for name, rows in counted.items()}, numbers, presence)
    singles = _strongest(tally((name,), rows) for name, rows in counted.items())
    pairs = list(combinations([single.columns[0] for single in singles[:CROSSED_COLUMNS]], 2))
    wanted = pairs if crosses is None else crosses
    together = [tally(*each) for each in zip(wanted, count(wanted), strict=True)]
    return make_encoders(encoder, singles, choose_crosses(singles, together) if crosses is None else together)


def make_tally(
    encoder: Encoder, columns: tuple[str, ...], rows: pd.DataFrame, mean_rate: float, negatives_kept: float
) -> Tally:
    """Rows of `TrainingFrame.tallies` by code; each impression without a reward stands for all that the log dropped."""
    joint = joint_codes([encoder.codes(name, rows[name]) for name in columns])
    is_known = ~np.isnan(joint)
    codes, place = np.unique(joint[is_known], return_inverse=True)
    impressions, rewards = np.zeros((2, len(codes), FOLDS))
    at = place, rows["fold"].to_numpy()[is_known]
    rewards[at] = rows["rewards"].to_numpy()[is_known]
    impressions[at] = rewards[at] + (rows["impressions"].to_numpy()[is_known] - rewards[at]) / negatives_kept
    kept = np.sort(np.argsort(-impressions.sum(axis=1), kind="stable")[:KNOWN_VALUES])
    return Tally(columns, codes[kept], impressions[kept], rewards[kept], mean_rate)


def choose_crosses(singles: Sequence[Tally], crosses: Sequence[Tally]) -> list[Tally]:
    """The crosses that foretell the rewards better than both of their columns do, the strongest first."""
    signal = {single.columns[0]: single.signal for single in singles}
    gained = {cross.columns: cross.signal - max(signal[name] for name in cross.columns) for cross in crosses}
    better = [cross for cross in crosses if gained[cross.columns] > 0]
    return sorted(better, key=lambda cross: -gained[cross.columns])[:MAXIMUM_CROSSES]


def make_encoders(encoder: Encoder, singles: Sequence[Tally], crosses: Sequence[Tally]) -> tuple[Encoder, ...]:
    """The encoder with the lookups of these tallies, and then as each fold's rows have to see it."""
    known = encoder.model_dump(exclude={"lookups"})
    counts = {f"count({each.columns[0]})": _lookup(each, np.log1p(each.impressions.sum(axis=1))) for each in singles}

    def rates(fold: int | None) -> dict[str, Lookup]:
        return {f"rate({', '.join(each.columns)})": _lookup(each, each.rates(fold)) for each in (*singles, *crosses)}

    return tuple(Encoder(**known, lookups=rates(fold) | counts) for fold in (None, *range(FOLDS)))


def encode_out_of_fold(encoders: Sequence[Encoder], rows: pd.DataFrame) -> pd.DataFrame:
    """Training rows, each by the encoder of its fold."""
    fold, coded = folds_of(rows), encoders[0].to_codes(rows)
    encoded = np.empty((len(rows), len(encoders[0].columns)), dtype=np.float32)
    for number, encoder in enumerate(encoders):
        encoded[fold == number] = encoder.to_features(coded[fold == number])
    return pd.DataFrame(encoded, index=rows.index, columns=encoders[0].columns)


def _occurrences(name: str, rows: pd.DataFrame) -> dict[str, int]:
    found = rows.groupby(name)["impressions"].sum()
    return dict(zip(found.index.astype(str), found.astype(int), strict=True))


def _strongest(tallies: Iterable[Tally]) -> list[Tally]:
    """Those of columns of which anything is known."""
    return sorted((tally for tally in tallies if len(tally.codes)), key=lambda tally: -tally.signal)


def _lookup(tally: Tally, values: Floats) -> Lookup:
    return Lookup(columns=tally.columns, codes=tuple(tally.codes.astype(int).tolist()), values=tuple(values.tolist()))
