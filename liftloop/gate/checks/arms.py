"""What always showing one ad of a place is worth, for the ads of places that have few."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from liftloop.contract.contract import Contract
from liftloop.evaluation.decision_value import logged_feedback
from liftloop.evaluation.fixed_policies import always, earning_impressions
from liftloop.gate.verdict import ArmRow
from liftloop.stats.off_policy import doubly_robust_value, effective_sample_size, importance_weights

PLACES_VALUED = 5  # those with the most impressions
MINIMUM_EARNING = 30  # impressions with an ad that earned something; with fewer, its value is unknown


def arm_table(contract: Contract, ads: pd.DataFrame, decisions: pd.DataFrame) -> tuple[ArmRow, ...]:
    """One row for each ad of the largest places with at most `FEW_ADS`.

    Args:
        ads: by which the decisions were made.
    """
    of_few = decisions[decisions["model_rewards"].notna()]
    sizes = of_few[contract.choose_among].value_counts()
    return tuple(row for place in sizes.index[:PLACES_VALUED] for row in _arms(contract, place, ads, of_few))


def _arms(contract: Contract, place: str, ads: pd.DataFrame, decisions: pd.DataFrame) -> Iterator[ArmRow]:
    group = contract.choose_among
    rows = decisions[decisions[group] == place]
    rewards = np.stack(rows["model_rewards"].tolist())
    for number, ad_id in enumerate(ads["ad_id"][ads[group] == place]):
        competes = ~np.isnan(rewards[:, number])
        if competes.any():
            model_reward = pd.Series(rewards[competes, number], index=rows.index[competes])
            yield _arm(contract, str(place), ad_id, always(rows[competes], ad_id, model_reward))


def _arm(contract: Contract, place: str, ad_id: str, decisions: pd.DataFrame) -> ArmRow:
    feedback, options = logged_feedback(contract, decisions)
    has_value = earning_impressions(decisions) >= MINIMUM_EARNING
    clip = contract.gate.overlap.max_weight
    return ArmRow(
        place=place,
        ad_id=ad_id,
        impressions=len(decisions),
        shown=int((decisions["ad_id"] == ad_id).sum()),
        value=doubly_robust_value(feedback, max_weight=clip, **options) if has_value else None,
        effective_sample_size=effective_sample_size(importance_weights(feedback), feedback.row_weight),
    )
