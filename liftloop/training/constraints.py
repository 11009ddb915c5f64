"""The contract's constraints on a model: monotone columns, and which columns may interact."""

import json
from collections.abc import Sequence
from typing import Any

from liftloop.contract.contract import Contract
from liftloop.contract.loading import ContractError
from liftloop.contract.sections import Training
from liftloop.features.definitions import feature_columns
from liftloop.model.encoder import Encoder

_SIGNS = {"increasing": 1, "decreasing": -1}


def model_columns(contract: Contract) -> tuple[list[str], list[str], list[str]]:
    """The raw columns that a model may read: text, numbers, and columns whose mere presence counts.

    A user is represented by features and by being known at all, never by an identifier.
    """
    context = [name for name, column in contract.context.items() if column.type == "string"]
    keys = [name for name in ("campaign_id", "advertiser_id", "site_id") if name in contract.columns]
    numbers = [name for name in contract.context if name not in context]
    presence = [name for name in ("user_id",) if name in contract.columns]
    return ["ad_id", "placement_id", *keys, *context], [*numbers, *feature_columns(contract)], presence


def raw_columns(contract: Contract) -> list[str]:
    """All raw columns that a model may read."""
    return [name for names in model_columns(contract) for name in names]


def require_known_constraints(contract: Contract) -> None:
    """Require that `training.monotone` and `training.interactions` name columns.

    Raises:
        ContractError: a name is not a column; the message lists the allowed ones.
    """
    named = {"monotone": list(contract.training.monotone), "interactions": sum(contract.training.interactions, ())}
    allowed = {"monotone": model_columns(contract)[1], "interactions": raw_columns(contract)}
    for key, names in named.items():
        if unknown := sorted(set(names) - set(allowed[key])):
            raise ContractError(
                f"contracts/{contract.source}.yaml: training.{key} names {unknown}; allowed: {allowed[key]}"
            )


def is_interaction_allowed(columns: Sequence[str], training: Training) -> bool:
    """Whether these raw columns may be combined into one column of the model."""
    groups = training.interactions
    return len(columns) == 1 or not groups or any(set(columns) <= set(group) for group in groups)


def constraint_parameters(encoder: Encoder, training: Training) -> dict[str, Any]:
    """The constraints as XGBoost's parameters, by column position. A column in no group interacts with none."""
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
