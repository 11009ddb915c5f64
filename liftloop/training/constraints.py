"""What a contract forbids its models: predictions that fall where they should rise, columns that act together."""

import json
from collections.abc import Sequence
from typing import Any

from liftloop.contract.contract import Contract, ContractError
from liftloop.contract.sections import Training
from liftloop.features.names import feature_columns
from liftloop.model.encoder import Encoder

_SIGNS = {"increasing": 1, "decreasing": -1}


def model_columns(contract: Contract) -> tuple[list[str], list[str], list[str]]:
    """The raw columns that a model may read: text, numbers, and those of which only the presence counts.

    A user enters by features, and by being known at all, never by name.
    """
    context = [name for name, column in contract.context.items() if column.type == "string"]
    keys = [name for name in ("campaign_id", "advertiser_id", "site_id") if name in contract.columns]
    numbers = [name for name in contract.context if name not in context]
    presence = [name for name in ("user_id",) if name in contract.columns]
    return ["ad_id", "placement_id", *keys, *context], [*numbers, *feature_columns(contract)], presence


def raw_columns(contract: Contract) -> list[str]:
    """All that a model may read, in whatever way."""
    return [name for names in model_columns(contract) for name in names]


def check_constraints(contract: Contract) -> None:
    """Are the names in `training.monotone` and `training.interactions` those of columns?

    Raises:
        ContractError: one is not; the message lists those that are.
    """
    named = {"monotone": list(contract.training.monotone), "interactions": sum(contract.training.interactions, ())}
    allowed = {"monotone": model_columns(contract)[1], "interactions": raw_columns(contract)}
    for key, names in named.items():
        if unknown := sorted(set(names) - set(allowed[key])):
            raise ContractError(
                f"contracts/{contract.source}.yaml: training.{key} names {unknown}; allowed: {allowed[key]}"
            )


def may_act_together(columns: Sequence[str], training: Training) -> bool:
    """Whether one column of the model may be made of all these raw ones."""
    groups = training.interactions
    return len(columns) == 1 or not groups or any(set(columns) <= set(group) for group in groups)


def constraint_parameters(encoder: Encoder, training: Training) -> dict[str, Any]:
    """The constraints in XGBoost's words, which count columns. A column in no group acts alone."""
    found: dict[str, Any] = {}
    if training.monotone:
        signs = [_SIGNS.get(training.monotone.get(name, ""), 0) for name in encoder.columns]
        found["monotone_constraints"] = f"({','.join(map(str, signs))})"
    if training.interactions:
        sources = list(encoder.sources.values())
        groups = [
            [place for place, columns in enumerate(sources) if set(columns) <= set(group)]
            for group in training.interactions
        ]
        found["interaction_constraints"] = json.dumps([group for group in groups if group])
    return found
