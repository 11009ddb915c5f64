"""Check of the decisions that the model stands for, on impressions logged with a propensity."""

import pandas as pd

from liftloop.contract.contract import Contract
from liftloop.contract.sections import GatePolicy
from liftloop.evaluation.decision_value import decision_value, logged_feedback
from liftloop.gate.verdict import CheckVerdict, Finding
from liftloop.stats.interval import is_outside
from liftloop.stats.off_policy import inverse_propensity_value, switch_doubly_robust_value
from liftloop.stats.overlap import Overlap, overlap
from liftloop.storage.parquet import keep_rows
from liftloop.storage.store import Store


def no_worse_decisions(store: Store, contract: Contract, decisions: pd.DataFrame) -> Finding:
    """Non-inferiority: fail if both SNIPS and DR leave no doubt that the decisions earn less than those logged.

    Untrustworthy, whatever the intervals say, where overlap fails: the intervals themselves then promise too much. The
    decisions are kept as an artifact.
    """
    value = decision_value(contract, decisions)
    feedback, options = logged_feedback(contract, decisions)
    max_weight = contract.gate.overlap.max_weight
    found, unsupported = overlap(feedback, max_weight, **options), unsupported_mass(contract, decisions)
    faults = overlap_faults(contract.gate, found, unsupported)
    verdict: CheckVerdict = "untrustworthy" if faults else "fail" if value.is_below_logged else "pass"
    reason = f"{value.words} {_trust(faults)}"
    return Finding(
        verdict,
        f"{reason} Weights above {max_weight:g} are clipped: {found.clipped_share:.1%} of the impressions.",
        observed=f"SNIPS {value.self_normalized:.3%}, DR {value.doubly_robust:.3%}",
        threshold=(
            f"not below {value.logged.estimate:.3%}, from an effective sample of at least"
            f" {contract.gate.minimum_effective_sample_size:,}"
        ),
        values={
            **{name: getattr(value, name) for name in ("logged", "self_normalized", "doubly_robust")},
            "inverse_propensity": inverse_propensity_value(feedback, max_weight=max_weight, **options),
            "switch_doubly_robust": switch_doubly_robust_value(feedback, max_weight=max_weight, **options),
            "mean_weight": found.mean_weight,
        },
        figures={
            "effective_sample_size": found.effective_sample_size,
            "clipped_share": found.clipped_share,
            "largest_reward_share": found.largest_reward_share,
            "unsupported_mass": unsupported,
        },
        artifacts=(keep_rows(store, decisions),),
    )


def unsupported_mass(contract: Contract, decisions: pd.DataFrame) -> float:
    """Share of the choices drawn from the policy that the log shows nowhere with the same `choose_among`.

    Such a choice had no propensity above 0 that any logged row could tell of, so no weight makes up for it.
    """
    group = contract.choose_among
    logged = pd.MultiIndex.from_frame(decisions[[group, "ad_id"]]).unique()
    chosen = pd.MultiIndex.from_frame(decisions[[group, "chosen_ad_id"]])
    return float((~chosen.isin(logged)).mean())


def overlap_faults(policy: GatePolicy, found: Overlap, unsupported: float) -> list[str]:
    """In what the log and the decisions have too little in common, in words."""
    limits = policy.overlap
    mean, tolerance = found.mean_weight, limits.mean_weight_tolerance
    told = f"{found.effective_sample_size:,.0f} impressions that it served itself"
    checks = {
        f"it tells no more of these decisions than {told} would": (
            found.effective_sample_size < policy.minimum_effective_sample_size
        ),
        f"the weights average {mean:.2f} where true propensities make 1": (
            is_outside(mean, (1 - tolerance, 1 + tolerance))
        ),
        f"{unsupported:.1%} of the decisions are for ads that it never shows there": (
            unsupported > limits.unsupported_mass
        ),
        f"{found.clipped_share:.1%} of the weights are clipped": found.clipped_share > limits.clipped_share,
        f"a single impression makes up {found.largest_reward_share:.0%} of all weighted rewards": (
            found.largest_reward_share > limits.largest_reward_share
        ),
    }
    return [fault for fault, is_found in checks.items() if is_found]


def _trust(faults: list[str]) -> str:
    return (
        f"But the log cannot be trusted to say so: {'; '.join(faults)}."
        if faults
        else "The log covers these decisions well enough to say so."
    )
