"""Hourly tiles: what was seen of each key in each hour. Windows are sums of tiles, so history is never read again.

An impression counts in the hour in which it was served; its outcome, with the revenue and cost it brought, in the hour
in which it became known. So a tile holds nothing that was not known when its hour ended.
"""

from datetime import date, timedelta
from math import ceil

from liftloop.contract.contract import Contract
from liftloop.features.incremental import Partition, update_partitions
from liftloop.lake.days import looking_back
from liftloop.lake.lake import Lake
from liftloop.storage.duckdb import quoted
from liftloop.storage.keys import tiles_index_key, tiles_prefix
from liftloop.storage.runs import Step
from liftloop.storage.store import Listed, Store

_MONEY = "DECIMAL(38, 9)"  # exact: a sum of floats would depend on the order of addition

_QUERY = """
WITH impressions AS MATERIALIZED (  -- read once
    SELECT {key} AS key, event_timestamp, outcome_timestamp, click, conversion,
           revenue::{money} AS revenue, cost::{money} AS cost
    FROM sources
    WHERE {key} IS NOT NULL
),
events AS (
    SELECT key, event_timestamp AS known_at, 1 AS impressions, 0 AS clicks, 0 AS conversions,
           0 AS revenue, 0 AS cost, event_timestamp AS last_impression, NULL AS last_click
    FROM impressions
    UNION ALL
    SELECT key, outcome_timestamp, 0, click, conversion, revenue, cost,
           NULL, CASE WHEN click > 0 THEN outcome_timestamp END
    FROM impressions
    WHERE outcome_timestamp BETWEEN event_timestamp AND event_timestamp + $horizon
)
SELECT key, time_bucket(INTERVAL 1 HOUR, known_at) AS hour,
       sum(impressions)::BIGINT AS impressions,
       coalesce(sum(clicks), 0)::BIGINT AS clicks,
       coalesce(sum(conversions), 0)::BIGINT AS conversions,
       coalesce(sum(revenue), 0)::{money} AS revenue,
       coalesce(sum(cost), 0)::{money} AS cost,
       max(last_impression) AS last_impression,
       max(last_click)::TIMESTAMPTZ AS last_click
FROM events
WHERE known_at >= $start AND known_at < $end
GROUP BY ALL
ORDER BY key, hour
"""


def update_tiles(store: Store, contract: Contract) -> Step:
    """Bring the tiles of every key up to date with the lake: `tiles/<source>/<key>/date=…/tiles.parquet`.

    Columns: `key`, `hour` (its start), `impressions`, `clicks`, `conversions`, `revenue` and `cost` (currency units),
    `last_impression`, `last_click`. Impressions without the key are left out.
    """
    lake = Lake(store, contract).by_day()
    return update_partitions(store, "update_tiles", tiles_index_key(contract.source), tile_partitions(contract, lake))


def tile_partitions(contract: Contract, lake: dict[date, list[Listed]]) -> list[Partition]:
    """A day's tiles are made from the impressions whose outcomes can reach it: back to the contract's outcome horizon.

    An outcome that comes later than the horizon is not counted.
    """
    horizon = contract.outcome.horizon
    sources = looking_back(lake, ceil(horizon / timedelta(days=1)))
    queries = {key: _QUERY.format(key=quoted(key), money=_MONEY) for key in contract.keys}
    return [
        Partition(tiles_prefix(contract.source, key), "tiles.parquet", day, files, query, {"horizon": horizon})
        for day, files in sources.items()
        for key, query in queries.items()
    ]
