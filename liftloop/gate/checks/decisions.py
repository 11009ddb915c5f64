"""Checks of the decisions of the model's policy, on impressions logged with a propensity."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd

from liftloop.contract.contract import Contract
from liftloop.contract.sections import GatePolicy
from liftloop.evaluation.decision_value import (
    DecisionValue,
    decision_value,
    doubly_robust_mean,
    logged_feedback,
    value_difference,
)
from liftloop.evaluation.fixed_policies import best_fixed, earning_impressions
from liftloop.evaluation.rewards import RewardSample
from liftloop.gate.checks.accuracy import FEW_DAYS
from liftloop.gate.verdict import Check, CheckVerdict
from liftloop.stats.interval import Interval, is_outside
from liftloop.stats.off_policy import inverse_propensity_value, switch_doubly_robust_value
from liftloop.stats.overlap import Overlap, overlap
from liftloop.stats.power import minimum_detectable_effect
from liftloop.storage.parquet import put_parquet_blob
from liftloop.storage.store import Store


def check_decisions(
    store: Store, contract: Contract, decisions: pd.DataFrame, rival_decisions: pd.DataFrame | None, rival: str
) -> Check:
    """See `judge_decisions`; the decisions are written as an artifact."""
    found = judge_decisions(contract, decisions, rival_decisions, rival)
    return replace(found, artifacts=(put_parquet_blob(store, decisions),))


def judge_decisions(
    contract: Contract, decisions: pd.DataFrame, rival_decisions: pd.DataFrame | None, rival: str
) -> Check:
    """Non-inferiority to a rival's decisions on the same impressions: the log's, where its decisions are None.

    Pass if the interval of the paired difference in value lies above minus the contract's `decision_margin`; fail if it
    lies below; else inconclusive. Untrustworthy, whatever the interval, if overlap with the log is too small, for the
    decisions or the rival's: the interval is then too narrow.
    """
    value, support = decision_value(contract, decisions), _Support.of(contract, decisions)
    compared = _compare(contract, decisions, rival_decisions, rival)
    faults = list(support.faults)
    if rival_decisions is not None:
        faults += [f"of {rival}: {fault}" for fault in _Support.of(contract, rival_decisions).faults]
    clip = contract.gate.overlap.max_weight
    return Check(
        "untrustworthy" if faults else compared.verdict,
        f"{compared.reason(faults)} {value.words} Importance weights are clipped at {clip:g}"
        f" ({support.overlap.clipped_share:.1%} of the impressions).{_of_unknown(support)}",
        observed=f"{compared.relative:+.1%}",
        threshold=compared.threshold,
        values=_values(contract, decisions, value)
        | {"mean_weight": support.overlap.mean_weight, "difference": compared.difference},
        figures=support.figures | {"compared_to": compared.scale, "minimum_detectable_effect": compared.detectable},
    )


def check_best_fixed(contract: Contract, decisions: pd.DataFrame) -> Check:
    """Non-inferiority to always showing, in each place, the competing ad that earned most before the hold-out.

    By the same rule as `check_decisions`. Not applicable where the log shows those ads too rarely to value them, so
    that noise decides nothing.

    Args:
        decisions: with the columns of `fixed_columns`.
    """
    fixed = best_fixed(decisions)
    rival = f"always showing the ad that earned most before in each {contract.choose_among}"
    if faults := [*_Support.of(contract, fixed).faults, *_too_few(contract, fixed)]:
        return Check("not_applicable", f"The log cannot value {rival}: {'; '.join(faults)}.")
    faults, compared = _Support.of(contract, decisions).faults, _compare(contract, decisions, fixed, rival)
    value = decision_value(contract, fixed).doubly_robust
    return Check(
        "untrustworthy" if faults else compared.verdict,
        compared.reason(faults),
        observed=f"{compared.relative:+.1%}",
        threshold=compared.threshold,
        values={"fixed": value, "fixed_difference": compared.difference},
        figures={"compared_to": compared.scale, "minimum_detectable_effect": compared.detectable},
    )


def _too_few(contract: Contract, decisions: pd.DataFrame) -> list[str]:
    """That too few impressions with the ads of a policy without a model earned something, if so."""
    found, needed = earning_impressions(decisions), contract.gate.minimum_rewards
    return [f"{found:,} impressions with its ads earned something, fewer than {needed:,}"] * (found < needed)


def _of_unknown(support: "_Support") -> str:
    if not support.unknown_eligible:
        return ""
    return (
        f" Of the ads that could have been shown, {support.unknown_eligible:.1%} never were: they cannot be scored, and"
        " do not compete."
    )


def _values(contract: Contract, decisions: pd.DataFrame, value: DecisionValue) -> dict[str, Interval]:
    feedback, options = logged_feedback(contract, decisions)
    clip = contract.gate.overlap.max_weight
    return {
        **{name: getattr(value, name) for name in ("logged", "self_normalized", "doubly_robust")},
        "inverse_propensity": inverse_propensity_value(feedback, max_weight=clip, **options),
        "switch_doubly_robust": switch_doubly_robust_value(feedback, max_weight=clip, **options),
    }


@dataclass(frozen=True)
class _Support:
    """How much the log says of some decisions."""

    overlap: Overlap
    unsupported: float
    unknown_eligible: float  # share of the eligible ads of an impression that were never shown
    faults: list[str]

    @classmethod
    def of(cls, contract: Contract, decisions: pd.DataFrame) -> Self:
        feedback, options = logged_feedback(contract, decisions)
        found = overlap(feedback, contract.gate.overlap.max_weight, **options)
        unsupported = unsupported_mass(contract, decisions)
        unknown = float(np.average(decisions["unknown_share"], weights=decisions["row_weight"]))
        return cls(found, unsupported, unknown, overlap_faults(contract.gate, found, unsupported))

    @property
    def figures(self) -> dict[str, float]:
        names = ("effective_sample_size", "clipped_share", "largest_reward_share")
        shares = {"unsupported_mass": self.unsupported, "unknown_eligible_share": self.unknown_eligible}
        return {name: getattr(self.overlap, name) for name in names} | shares


def _compare(
    contract: Contract, decisions: pd.DataFrame, rival_decisions: pd.DataFrame | None, rival: str
) -> "_Compared":
    sample = RewardSample.of(contract, decisions, decisions["reward"].to_numpy(dtype=np.float64))
    difference = value_difference(contract, decisions, rival_decisions)
    valued = [] if rival_decisions is None else [doubly_robust_mean(contract, rival_decisions)]
    logged = float(np.average(decisions["reward"], weights=decisions["row_weight"]))
    scale = next((value for value in [*valued, logged] if value > 0), 1.0)
    return _Compared(rival, scale, difference, contract.gate, sample.has_few_days)


@dataclass(frozen=True)
class _Compared:
    """The value of decisions minus a rival's, in rewards per impression."""

    rival: str
    scale: float  # the rival's value, or the log's where that is estimated as none
    difference: Interval
    policy: GatePolicy
    has_few_days: bool

    @property
    def relative(self) -> Interval:
        """The difference as a share of that value."""
        limits = (self.difference.estimate, self.difference.low, self.difference.high)
        return Interval(*(each / self.scale for each in limits))

    @property
    def verdict(self) -> CheckVerdict:
        if self.has_few_days:
            return "inconclusive"
        if self.relative.low > -self.policy.decision_margin:
            return "pass"
        return "fail" if self.relative.high < -self.policy.decision_margin else "inconclusive"

    @property
    def detectable(self) -> float:
        """The loss that this log tells from none with the contract's power, as a share of the rival's value."""
        return minimum_detectable_effect(self.relative, confidence=self.policy.confidence, power=self.policy.power)

    @property
    def threshold(self) -> str:
        return f"above {-self.policy.decision_margin:.0%} of {self.rival}"

    def reason(self, faults: list[str]) -> str:
        """The difference in words, after what is to be said against it first."""
        doubts = [f"Untrustworthy: {'; '.join(faults)}."] * bool(faults) + [FEW_DAYS] * self.has_few_days
        return " ".join([*doubts, self._words])

    @property
    def _words(self) -> str:
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
    return float(np.average(~chosen.isin(logged), weights=decisions["row_weight"]))


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
