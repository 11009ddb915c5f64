"""Feature tables: windows over the tiles of each key, as Feast reads them.

The row of a key at an hour's boundary knows the tiles of hours that ended by then and nothing later. There is a row at
every boundary where a window changes: where an active hour ends, and where it leaves a window. So the latest row at or
before a time *t* holds the windows at the last full hour before *t*, and no rows are needed for idle hours. The last
boundary is on the newest day of the lake: later values are unknown.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from liftloop.contract.contract import Contract
from liftloop.features.definitions import EVENTS, LONGEST_WINDOW, WINDOW_HOURS, feature_expressions, measures
from liftloop.features.incremental import Partition, update_partitions
from liftloop.features.partition_index import Index
from liftloop.lake.days import Source, by_day, looking_back
from liftloop.storage.duckdb import quoted
from liftloop.storage.keys import features_index_key, features_prefix, tiles_index_key, tiles_prefix
from liftloop.storage.runs import Step
from liftloop.storage.store import Store

_FILE = "features.parquet"
_DAYS_BACK = LONGEST_WINDOW // timedelta(days=1) + 1  # the hour before midnight leaves a window at its end

_QUERY = """
WITH active AS (
    SELECT * FROM sources WHERE impressions + clicks + conversions > 0 OR revenue <> 0
),
opening AS (  -- in one row all hours that ended an hour before the day or earlier: most of what is read
    SELECT key, $start - INTERVAL 1 HOUR AS event_timestamp, {opening}, {latest}
    FROM active
    WHERE hour <= $start - INTERVAL 2 HOUR
    GROUP BY key
),
changes AS (  -- then what an hour adds to a window when it ends, and takes away when it leaves
    SELECT key, hour + to_hours(1 + age) AS event_timestamp, {changes}, {latest_ended}
    FROM ({changing})
    GROUP BY ALL
),
windows AS (
    SELECT key, event_timestamp, {windows}
    FROM (FROM opening UNION ALL BY NAME FROM changes)
    WINDOW past AS (PARTITION BY key ORDER BY event_timestamp ROWS UNBOUNDED PRECEDING)
)
SELECT key AS {key}, event_timestamp, {features}
FROM windows
WHERE event_timestamp >= $start
ORDER BY key, event_timestamp
"""


def features_pattern(source: str, key: str) -> str:
    """The keys of all partitions of a table, as a pattern that DuckDB reads."""
    return f"{features_prefix(source, key)}*/{_FILE}"


def update_feature_tables(store: Store, contract: Contract) -> Step:
    """Bring the feature tables up to date with the tiles: `features/<source>/<key>/date=…/features.parquet`.

    Columns: the key's own name, `event_timestamp` and `table_columns`.
    """
    tiles = _tiles(store, contract)
    partitions = [partition for key in contract.keys for partition in feature_partitions(contract, key, tiles[key])]
    return update_partitions(store, "update_feature_tables", features_index_key(contract.source), partitions)


def _tiles(store: Store, contract: Contract) -> dict[str, dict[date, list[Source]]]:
    """The tiles of each key by day, from their index."""
    known: list[Source] = [*Index.read(store, tiles_index_key(contract.source)).entries.values()]
    if not known:
        known += store.list(tiles_prefix(contract.source))
    tables = {key: tiles_prefix(contract.source, key) for key in contract.keys}
    return {key: by_day(item for item in known if item.key.startswith(table)) for key, table in tables.items()}


def feature_partitions(contract: Contract, key: str, tiles: Mapping[date, Sequence[Source]]) -> list[Partition]:
    """A day's rows are computed from its tiles and those of the preceding eight days: a new day changes no old one."""
    table, query = features_prefix(contract.source, key), _query(contract, key)
    return [Partition(table, _FILE, day, files, query) for day, files in looking_back(tiles, _DAYS_BACK).items()]


def _query(contract: Contract, key: str) -> str:
    windows = [(measure, name, hours) for measure in measures(contract) for name, hours in WINDOW_HOURS.items()]
    opening = (
        f"sum(CASE WHEN hour > $start - to_hours({2 + hours}) THEN {measure} ELSE 0 END) AS {measure}_{name}"
        for measure, name, hours in windows
    )
    changing = (
        f"SELECT {age} AS age, * FROM active"
        f" WHERE hour > $start - to_hours({2 + age}) AND hour < $end - to_hours({1 + age})"
        for age in (0, *WINDOW_HOURS.values())
    )
    changes = (
        f"sum(CASE age WHEN 0 THEN {measure} WHEN {hours} THEN -{measure} ELSE 0 END) AS {measure}_{name}"
        for measure, name, hours in windows
    )
    sums = [f"sum({measure}_{name}) OVER past AS {measure}_{name}" for measure, name, _ in windows]
    past = [f"max(last_{event}) OVER past AS last_{event}" for event in EVENTS]
    return _QUERY.format(
        opening=", ".join(opening),
        changing=" UNION ALL ".join(changing),
        changes=", ".join(changes),
        latest=", ".join(f"max(last_{event}) AS last_{event}" for event in EVENTS),
        latest_ended=", ".join(f"max(last_{event}) FILTER (age = 0) AS last_{event}" for event in EVENTS),
        windows=", ".join([*sums, *past]),
        features=", ".join(
            f"({value})::DOUBLE AS {name}" for name, value in feature_expressions(contract, key).items()
        ),
        key=quoted(key),
    )
