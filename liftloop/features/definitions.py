"""Which features a source has: windows, priors, and the names of columns, Feast views and service."""

from datetime import timedelta

from liftloop.contract.contract import Contract

FEAST_PROJECT = "liftloop"

WINDOW_HOURS = {"1h": 1, "1d": 24, "7d": 168}
LONGEST_WINDOW = timedelta(hours=max(WINDOW_HOURS.values()))

# A key without events keeps zeros until the longest window has passed, and then has no value.
TIME_TO_LIVE = LONGEST_WINDOW + timedelta(hours=1)

# Smoothed rate = (clicks + 1) / (impressions + 100): every key starts as if it had one click in a hundred impressions.
# A constant cannot leak the future and does not change between two rows of a key. A prior estimated from the data would
# change every hour for every key, and the latest row would no longer hold the value at *t*.
PRIOR_CLICKS = 1
PRIOR_IMPRESSIONS = 100

EVENTS = ("impression", "click")  # whose recency is a feature


def feature_columns(contract: Contract, *keys: str) -> list[str]:
    """The numeric feature columns that a model reads, including recency (seconds since an event); default: all keys."""
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


def measures(contract: Contract) -> list[str]:
    """The columns that are summed over each window, if the source reports them."""
    optional = {"conversions": "conversion", "revenue": "revenue"}
    return ["impressions", "clicks", *(name for name, column in optional.items() if column in contract.outcome_columns)]


def entity_name(key: str) -> str:
    """`ad_id` -> `ad`, the first part of its features' names."""
    return key.removesuffix("_id")


def table_columns(contract: Contract, key: str) -> list[str]:
    """The features of one key's table, in order: all floats, times in seconds since 1970."""
    return list(feature_expressions(contract, key))


def feature_expressions(contract: Contract, key: str) -> dict[str, str]:
    """Stored feature -> its SQL, in terms of one row's windows."""
    entity = entity_name(key)
    totals = {f"{measure}_{window}": f"{measure}_{window}" for measure in measures(contract) for window in WINDOW_HOURS}
    rates = {
        f"smoothed_ctr_{window}": f"(clicks_{window} + {PRIOR_CLICKS}) / (impressions_{window} + {PRIOR_IMPRESSIONS})"
        for window in WINDOW_HOURS
    }
    recent = f"event_timestamp - to_hours({max(WINDOW_HOURS.values())})"
    times = {
        f"last_{event}_seconds": f"CASE WHEN last_{event} >= {recent} THEN epoch(last_{event}) END" for event in EVENTS
    }
    return {f"{entity}_{name}": value for name, value in (totals | rates | times).items()}
