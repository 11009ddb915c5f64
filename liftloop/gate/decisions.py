"""Check of the decisions that the model stands for, on impressions logged with a propensity."""

import pandas as pd

from liftloop.contract import Contract
from liftloop.gate.evidence import keep_rows
from liftloop.gate.verdict import CheckVerdict, Finding
from liftloop.policy import decision_value
from liftloop.store import Store


def no_worse_decisions(store: Store, contract: Contract, decisions: pd.DataFrame) -> Finding:
    """Non-inferiority: fail if both SNIPS and DR leave no doubt that the decisions earn less than those logged.

    Inconclusive, whatever the intervals say, if the logged impressions tell too little about these decisions: with a
    small effective sample size the intervals themselves are not to be trusted. The decisions are kept as an artifact.
    """
    value = decision_value(contract, decisions)
    needed = contract.gate.minimum_effective_sample_size
    verdict: CheckVerdict = "fail" if value.is_below_logged else "pass"
    reason = value.words
    if value.effective_sample_size < needed:
        verdict = "inconclusive"
        told = f"{value.effective_sample_size:,.0f} impressions that it served itself"
        reason += f" But these tell no more about its decisions than {told} would."
    return Finding(
        verdict,
        reason,
        observed=f"SNIPS {value.self_normalized:.3%}, DR {value.doubly_robust:.3%}",
        threshold=f"not below {value.logged.estimate:.3%}, from an effective sample of at least {needed:,}",
        values={name: getattr(value, name) for name in ("logged", "self_normalized", "doubly_robust")},
        artifacts=(keep_rows(store, decisions),),
    )
