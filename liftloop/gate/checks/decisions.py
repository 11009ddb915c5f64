"""Check of the decisions of the model's policy, on impressions logged with a propensity."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from liftloop.contract.contract import Contract
from liftloop.contract.sections import GatePolicy
from liftloop.evaluation.decision_value import decision_value, logged_feedback, value_difference
from liftloop.evaluation.rewards import RewardSample
from liftloop.gate.checks.accuracy import FEW_DAYS
from liftloop.gate.verdict import Check, CheckVerdict
from liftloop.stats.interval import Interval, is_outside
from liftloop.stats.off_policy import inverse_propensity_value, switch_doubly_robust_value
from liftloop.stats.overlap import Overlap, overlap
from liftloop.stats.power import minimum_detectable_effect
from liftloop.stats.scoring import sampling_weight
from liftloop.storage.parquet import put_parquet_blob
from liftloop.storage.store import Store


def check_decisions(
    store: Store, contract: Contract, decisions: pd.DataFrame, rival_decisions: pd.DataFrame | None, rival: str
) -> Check:
    """Non-inferiority to a rival's decisions on the same impressions: the log's, where its decisions are None.

    Pass if the interval of the paired difference in value lies above minus the contract's `decision_margin`; fail if it
    lies below; else inconclusive. Untrustworthy, whatever the interval, if overlap is too small: it is then too narrow.
    The decisions are written as an artifact.
    """
    value, policy = decision_value(contract, decisions), contract.gate
    rival_value = decision_value(contract, rival_decisions).doubly_robust if rival_decisions is not None else None
    compared = _Compared(
        rival, (rival_value or value.logged).estimate, value_difference(contract, decisions, rival_decisions), policy
    )
    feedback, options = logged_feedback(contract, decisions)
    max_weight = policy.overlap.max_weight
    found, unsupported = overlap(feedback, max_weight, **options), unsupported_mass(contract, decisions)
    faults = overlap_faults(policy, found, unsupported)
    has_few_days = RewardSample.of(contract, decisions, feedback.reward).has_few_days
    verdict = "untrustworthy" if faults else "inconclusive" if has_few_days else compared.verdict
    doubts = [f"Untrustworthy: {'; '.join(faults)}."] * bool(faults) + [FEW_DAYS] * has_few_days
    return Check(
        verdict,
        f"{' '.join([*doubts, compared.words])} {value.words} Importance weights are clipped at {max_weight:g}"
        f" ({found.clipped_share:.1%} of the impressions).",
        observed=f"{compared.relative:+.1%}",
        threshold=f"above {-policy.decision_margin:.0%} of {rival}",
        values={
            **{name: getattr(value, name) for name in ("logged", "self_normalized", "doubly_robust")},
            "inverse_propensity": inverse_propensity_value(feedback, max_weight=max_weight, **options),
            "switch_doubly_robust": switch_doubly_robust_value(feedback, max_weight=max_weight, **options),
            "mean_weight": found.mean_weight,
            "difference": compared.difference,
        },
        figures={
            "rival_value": compared.rival_value,
            "minimum_detectable_effect": compared.detectable,
            "effective_sample_size": found.effective_sample_size,
            "clipped_share": found.clipped_share,
            "largest_reward_share": found.largest_reward_share,
            "unsupported_mass": unsupported,
        },
        artifacts=(put_parquet_blob(store, decisions),),
    )


@dataclass(frozen=True)
class _Compared:
    """The value of decisions minus a rival's, in rewards per impression."""

    rival: str
    rival_value: float
    difference: Interval
    policy: GatePolicy

    @property
    def relative(self) -> Interval:
        """The difference as a share of the rival's value."""
        scale = abs(self.rival_value) or 1.0
        return Interval(
            *(each / scale for each in (self.difference.estimate, self.difference.low, self.difference.high))
        )

    @property
    def verdict(self) -> CheckVerdict:
        if self.relative.low > -self.policy.decision_margin:
            return "pass"
        return "fail" if self.relative.high < -self.policy.decision_margin else "inconclusive"

    @property
    def detectable(self) -> float:
        """The loss that this log tells from none with the contract's power, as a share of the rival's value."""
        return minimum_detectable_effect(self.relative, confidence=self.policy.confidence, power=self.policy.power)

    @property
    def words(self) -> str:
        return (
            f"Decisions are worth {self.relative:+.1%} compared with {self.rival}; a loss of up to"
            f" {self.policy.decision_margin:.0%} is accepted, and one of {self.detectable:.1%} would be detected with"
            f" {self.policy.power:.0%} power."
        )


def unsupported_mass(contract: Contract, decisions: pd.DataFrame) -> float:
    """Share of the policy's choices that never occur in the log with the same value of `choose_among`.

    No logged row has a propensity for such a choice, so no weight can correct for it.
    """
    group = contract.choose_among
    logged = pd.MultiIndex.from_frame(decisions[[group, "ad_id"]]).unique()
    chosen = pd.MultiIndex.from_frame(decisions[[group, "chosen_ad_id"]])
    weight = sampling_weight(decisions["reward"], contract.outcome.negatives_kept)
    return float(np.average(~chosen.isin(logged), weights=weight))


def overlap_faults(policy: GatePolicy, found: Overlap, unsupported: float) -> list[str]:
    """The reasons why the overlap of log and decisions is too small; empty if it is sufficient."""
    limits = policy.overlap
    mean, tolerance = found.mean_weight, limits.mean_weight_tolerance
    size, needed = found.effective_sample_size, policy.minimum_effective_sample_size
    checks = {
        f"the effective sample size is {size:,.0f}, below {needed:,}": size < needed,
        f"the mean importance weight is {mean:.2f}, but 1 with true propensities": (
            is_outside(mean, (1 - tolerance, 1 + tolerance))
        ),
        f"{unsupported:.1%} of the decisions have no support in the log": unsupported > limits.unsupported_mass,
        f"{found.clipped_share:.1%} of the weights are clipped": found.clipped_share > limits.clipped_share,
        f"a single impression carries {found.largest_reward_share:.0%} of the weighted rewards": (
            found.largest_reward_share > limits.largest_reward_share
        ),
    }
    return [fault for fault, is_found in checks.items() if is_found]
