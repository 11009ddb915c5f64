"""What the features of a source are called, and the Feast views and the service that hold them."""

from liftloop.contract.contract import Contract
from liftloop.features.tables import EVENTS, entity_name, table_columns

FEAST_PROJECT = "liftloop"


def feature_columns(contract: Contract, *keys: str) -> list[str]:
    """The numeric columns that a model reads, recency (seconds since an event) included; those of all keys or some."""
    recency = recency_columns(contract)
    stored = (column for key in keys or contract.keys for column in table_columns(contract, key))
    return [recency.get(column, column) for column in stored]


def recency_columns(contract: Contract) -> dict[str, str]:
    """Stored time -> feature: `ad_last_click_seconds` -> `ad_seconds_since_click`."""
    entities = map(entity_name, contract.keys)
    return {
        f"{entity}_last_{event}_seconds": f"{entity}_seconds_since_{event}" for entity in entities for event in EVENTS
    }


def feature_service_name(contract: Contract) -> str:
    """The service that a model of this source reads: `<source>_<reward>_v<feature_version>`."""
    return f"{contract.source}_{contract.reward}_v{contract.feature_version}"


def view_name(contract: Contract, key: str) -> str:
    return f"{contract.source}_{key}"
