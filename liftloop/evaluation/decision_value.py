"""Off-policy value of a model's decisions on logged impressions.

The candidates of an impression are ads with the same value of the contract's `choose_among`: see `LoggedCandidates`.
"""

import numpy as np
import pandas as pd

from liftloop.contract.contract import Contract
from liftloop.decisions.candidates import Chunk, pair_columns
from liftloop.decisions.policy import draw_ads, policy_probabilities
from liftloop.evaluation.earned import earned
from liftloop.evaluation.fixed_policies import fixed_columns
from liftloop.evaluation.logged_candidates import LoggedCandidates
from liftloop.evaluation.rewards import RewardSample
from liftloop.model.model import Model
from liftloop.registry.timeline import Timeline
from liftloop.stats.columns import Floats
from liftloop.stats.interval import BootstrapOptions, Interval
from liftloop.stats.off_policy import (
    LoggedFeedback,
    doubly_robust,
    doubly_robust_value,
    effective_sample_size,
    importance_weights,
    represented_rows,
    self_normalized_value,
    weighted_mean,
)
from liftloop.stats.scoring import sampling_weight
from liftloop.stats.winsorize import winsorized
from liftloop.storage.frozen import Measured
from liftloop.storage.store import Store

MAX_EXPANDED_ROWS = 8_000_000  # impressions times ads; above it, impressions are sampled

_FEEDBACK = ("reward", "propensity", "target_probability", "model_reward", "model_target_reward", "row_weight")


class DecisionValue(Measured):
    """Mean value per impression of a policy's decisions, and of the logged ones on the same impressions.

    In the unit of the contract's objective: clicks, conversions, or currency units.
    """

    impressions: int
    logged: Interval
    self_normalized: Interval
    doubly_robust: Interval
    effective_sample_size: float

    @property
    def is_below_logged(self) -> bool:
        """Whether both estimates' intervals lie below the mean of the logged rewards."""
        return max(self.self_normalized.high, self.doubly_robust.high) < self.logged.estimate

    @property
    def words(self) -> str:
        """One sentence: the value relative to the logged decisions."""
        logged = self.logged.estimate
        if not logged:
            return f"The {self.impressions:,} logged impressions have earned nothing to compare with."
        shares = [
            f"{name} {value.estimate / logged:.0%} [{value.low / logged:.0%}, {value.high / logged:.0%}]"
            for name, value in (("SNIPS", self.self_normalized), ("DR", self.doubly_robust))
        ]
        return f"Value relative to the logged decisions on {self.impressions:,} impressions: {', '.join(shares)}."


def decide(
    store: Store,
    contract: Contract,
    models: Model | Timeline,
    ads: pd.DataFrame,
    rows: pd.DataFrame,
    *,
    max_expanded_rows: int = MAX_EXPANDED_ROWS,
) -> pd.DataFrame:
    """Decisions of the model's policy on logged impressions that have a propensity and competing ads.

    Args:
        models: one model, or a version's models, each of which decides on the impressions of its time.
        ads: as `competing_ads` returns them; with an `earnings_rank`, the higher the more an ad earned in its place.
        rows: impressions by time, with `feature_columns`; a seeded sample of them is used if there are too many.

    Returns:
        One row per impression, in their order: `impression_id`, `event_timestamp`, the contract's keys,
        `choose_among` and context of the request, `ad_id` as logged, `chosen_ad_id` drawn from the policy,
        `propensity`, `target_probability` of the logged ad, `weight`, `reward`: what it earned in the unit of the
        contract's objective, `row_weight`: the impressions that the row represents, and what the model expects in that
        unit: `model_reward` of the logged ad (0 if it does not compete) and `model_target_reward` of the policy;
        `unknown_share` of the ads that could have been shown, by the log, which never were and do not compete. Where
        `ads` have a rank, also the columns of `fixed_columns`.

    Raises:
        ValueError: no impression has a propensity and competing ads, or the model reads a column about request and ad,
            which is known of the logged ad alone.
    """
    for model, _ in models.by_time(rows):
        if unknown := pair_columns(contract, model):
            raise ValueError(f"the model reads {unknown}, which the log has of the logged ad alone")
    rng = np.random.default_rng(contract.training.seed)
    rows = _sample(contract, ads, rows, max_expanded_rows, rng)
    candidates = (LoggedCandidates(store, contract, model, ads, part) for model, part in models.by_time(rows))
    parts = [_choose(each, chunk, rng) for each in candidates for chunk in each.chunks()]
    chosen = pd.concat(parts, ignore_index=True)
    logged = rows[_logged_columns(contract)]
    weight = chosen["target_probability"] / rows["propensity"]
    row_weight = sampling_weight(rows[contract.reward].to_numpy(dtype=np.float64), contract.outcome.negatives_kept)
    found = pd.concat([logged, chosen], axis="columns")
    return found.assign(weight=weight, reward=earned(contract, rows), row_weight=row_weight)


def decide_precisely(
    store: Store, contract: Contract, models: Model | Timeline, ads: pd.DataFrame, rows: pd.DataFrame
) -> pd.DataFrame:
    """As `decide`, on as many impressions as the contract's effective sample size needs, if so many can be had."""
    limit, possible = MAX_EXPANDED_ROWS, len(_decidable(contract, ads, rows))
    while True:
        decisions = decide(store, contract, models, ads, rows, max_expanded_rows=limit)
        feedback, _ = logged_feedback(contract, decisions)
        size = effective_sample_size(importance_weights(feedback), feedback.row_weight)
        needed = contract.gate.minimum_effective_sample_size
        is_out_of_reach = size * possible / len(decisions) < needed / 2  # even on all there are
        if size >= needed or len(decisions) == possible or is_out_of_reach:
            return decisions
        limit *= 4


def decision_value(contract: Contract, decisions: pd.DataFrame) -> DecisionValue:
    """Off-policy value of the decisions by SNIPS and doubly robust, and the mean of the logged rewards.

    Weights are clipped at the contract's `overlap.max_weight`.
    """
    feedback, options = logged_feedback(contract, decisions)
    clipped_at = contract.gate.overlap.max_weight
    return DecisionValue(
        impressions=len(decisions),
        logged=weighted_mean(feedback, feedback.reward, **options),
        self_normalized=self_normalized_value(feedback, max_weight=clipped_at, **options),
        doubly_robust=doubly_robust_value(feedback, max_weight=clipped_at, **options),
        effective_sample_size=effective_sample_size(importance_weights(feedback), feedback.row_weight),
    )


def value_difference(contract: Contract, decisions: pd.DataFrame, rival: pd.DataFrame | None) -> Interval:
    """Doubly robust value of the decisions minus that of a rival's on the same impressions, paired; None: the log's.

    Per impression, in the unit of the contract's objective. Both are unbiased, each with its own model; what both
    policies agree on cancels.
    """
    feedback, _ = logged_feedback(contract, decisions)
    ours = _doubly_robust_by_row(contract, decisions)
    theirs = feedback.reward if rival is None else _doubly_robust_by_row(contract, rival)
    weight = represented_rows(feedback)
    sample = RewardSample.of(contract, decisions, feedback.reward)
    return sample.ratio(weight * (ours - theirs), weight, is_positive=False)


def doubly_robust_mean(contract: Contract, decisions: pd.DataFrame) -> float:
    """The doubly robust value of decisions, per impression of the full log."""
    return float(np.average(_doubly_robust_by_row(contract, decisions), weights=decisions["row_weight"]))


def _doubly_robust_by_row(contract: Contract, decisions: pd.DataFrame) -> Floats:
    feedback, _ = logged_feedback(contract, decisions)
    return doubly_robust(feedback, importance_weights(feedback, contract.gate.overlap.max_weight))


def logged_feedback(contract: Contract, decisions: pd.DataFrame) -> tuple[LoggedFeedback, BootstrapOptions]:
    """The decisions as the off-policy estimators take them, rewards winsorized, and the options of their intervals."""
    columns = {name: decisions[name].to_numpy(dtype=np.float64) for name in _FEEDBACK}
    columns["reward"] = winsorized(columns["reward"], contract.gate.winsorized_share)
    return LoggedFeedback(**columns), RewardSample.of(contract, decisions, columns["reward"]).options


def _logged_columns(contract: Contract) -> list[str]:
    request = [name for name, column in contract.context.items() if column.about == "request"]
    names = ["impression_id", "event_timestamp", "user_id", "placement_id", *contract.keys, contract.choose_among]
    return list(dict.fromkeys([*names, *request, "ad_id", "propensity"]))  # each once, in this order


def _decidable(contract: Contract, ads: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    group = contract.choose_among
    return rows[rows["propensity"].notna() & rows[group].isin(ads[group])]


def _sample(
    contract: Contract, ads: pd.DataFrame, rows: pd.DataFrame, max_expanded_rows: int, rng: np.random.Generator
) -> pd.DataFrame:
    """The impressions that have candidates, sampled so that impressions times ads are at most `max_expanded_rows`."""
    group, rows = contract.choose_among, _decidable(contract, ads, rows)
    if rows.empty:
        raise ValueError(f"no impression has a propensity and a {group} with competing ads")
    order = rng.permutation(len(rows))
    expanded = rows[group].map(ads[group].value_counts()).to_numpy()[order].cumsum()
    return rows.iloc[np.sort(order[expanded <= max_expanded_rows])].reset_index(drop=True)


def _choose(candidates: LoggedCandidates, chunk: Chunk, rng: np.random.Generator) -> pd.DataFrame:
    """Draw an ad for each impression; with the policy's probability and the model's value of the logged ad."""
    values = candidates.value(chunk)
    probability = policy_probabilities(values, chunk)
    ad_ids = candidates.ads["ad_id"].to_numpy()
    is_logged = ad_ids[chunk.ad] == candidates.rows["ad_id"].to_numpy()[chunk.owner]
    chosen = {
        "chosen_ad_id": ad_ids[chunk.ad[draw_ads(probability, chunk, rng)]],
        "target_probability": np.minimum(chunk.sums(probability * is_logged), 1),
        "model_reward": chunk.sums(values * is_logged),
        "model_target_reward": chunk.sums(values * probability),
        "unknown_share": candidates.eligible.unknown_shares[chunk.first : chunk.last],
    }
    fixed = fixed_columns(candidates, chunk, values) if "earnings_rank" in candidates.ads else {}
    return pd.DataFrame({**chosen, **fixed})
