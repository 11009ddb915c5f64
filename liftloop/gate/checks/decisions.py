"""Check of the decisions of the model's policy, on impressions logged with a propensity."""

import numpy as np
import pandas as pd

from liftloop.contract.contract import Contract
from liftloop.contract.sections import GatePolicy
from liftloop.evaluation.decision_value import decision_value, logged_feedback
from liftloop.gate.verdict import Check, CheckVerdict
from liftloop.stats.interval import is_outside
from liftloop.stats.off_policy import inverse_propensity_value, switch_doubly_robust_value
from liftloop.stats.overlap import Overlap, overlap
from liftloop.stats.scoring import sampling_weight
from liftloop.storage.parquet import put_parquet_blob
from liftloop.storage.store import Store


def check_decisions(store: Store, contract: Contract, decisions: pd.DataFrame) -> Check:
    """Non-inferiority: fail if the intervals of both SNIPS and DR lie below the value of the logged decisions.

    Untrustworthy, whatever the intervals, if overlap is too small: the intervals are then too narrow. The decisions are
    written as an artifact.
    """
    value = decision_value(contract, decisions)
    feedback, options = logged_feedback(contract, decisions)
    max_weight = contract.gate.overlap.max_weight
    found, unsupported = overlap(feedback, max_weight, **options), unsupported_mass(contract, decisions)
    faults = overlap_faults(contract.gate, found, unsupported)
    verdict: CheckVerdict = "untrustworthy" if faults else "fail" if value.is_below_logged else "pass"
    reason = f"{value.words} {_trust(faults)}"
    return Check(
        verdict,
        f"{reason} Importance weights are clipped at {max_weight:g} ({found.clipped_share:.1%} of the impressions).",
        observed=f"SNIPS {value.self_normalized:.3%}, DR {value.doubly_robust:.3%}",
        threshold=(
            f"not below {value.logged.estimate:.3%}, from an effective sample size of at least"
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
        artifacts=(put_parquet_blob(store, decisions),),
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


def _trust(faults: list[str]) -> str:
    return f"Untrustworthy: {'; '.join(faults)}." if faults else "Overlap with the log is sufficient."
