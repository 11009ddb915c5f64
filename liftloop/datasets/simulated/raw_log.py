"""The file a publisher lands: Parquet (zstd), one row per served impression, joined with its outcome.

| column | type | unit | meaning |
|---|---|---|---|
| `imp_id` | int64 | | the impression, unique over the whole log |
| `ts` | int64 | milliseconds since 1970, UTC | when it was served |
| `uid` | string | | the user, `u0000042`; null for some in a world that moves |
| `site` | string | | the site |
| `slot` | string | | the placement, `<site>-<spot>` |
| `creative` | string | | the ad, `ad-00` to `ad-79`; `ad-07-1` is the second to take the place of `ad-07` |
| `camp`, `adv` | string | | the ad's campaign and advertiser |
| `cat` | string | | the ad's category |
| `seg` | string | | the user's segment |
| `dev` | string | | the device |
| `lh` | int8 | hour, 0 to 23 | hour of day at the site |
| `pol` | string | | the policy that chose the ad |
| `prob` | double | | P(ad \\| context) under that policy |
| `pricing` | string | | what the advertiser pays for: `CPC`, a click |
| `bid_micros` | int64 | millionths of the currency unit | how much for it |
| `clk`, `conv` | int8 | 0 or 1 | click, conversion after the click |
| `rev_micros` | int64 | millionths of the currency unit | the advertiser pays the publisher, on a click |
| `cost_micros` | int64 | millionths of the currency unit | the publisher pays the site, on every impression |
| `out_ts` | int64 | milliseconds since 1970, UTC | when the outcome became known |
| `pos` | int8 | 1 to 3 | position on the page; only in a world that moves |
| `elig` | string | | the ads that could have been shown, `ad-01\\|ad-07`; only in a world that moves |

The outcome is known at the conversion, else at the click, else 30 minutes after the impression. A click comes within
30 minutes, a conversion within 2 days of its click. Where outcomes land in files of their own, `clk`, `conv`,
`rev_micros` and `out_ts` are there, beside `imp_id`, for impressions with a click alone. Clean rows have no nulls;
`dirt.py` corrupts some rows.
"""

import io

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liftloop.datasets.simulated.catalogue import (
    ADS,
    ADVERTISERS,
    CAMPAIGNS,
    CAMPAIGNS_PER_ADVERTISER,
    CATEGORIES,
    DEVICES,
    PLACEMENT_COST_MICROS,
    PLACEMENT_SITES,
    PLACEMENTS,
    POLICIES,
    SEGMENTS,
)
from liftloop.datasets.simulated.draws import IntArray, Names
from liftloop.datasets.simulated.impressions import DAY_MS, HOUR_MS, Impressions
from liftloop.datasets.simulated.today import Moved
from liftloop.datasets.simulated.users import Users
from liftloop.datasets.simulated.world import LOCAL_HOUR, Ads


class RawLog:
    """Turns drawn impressions into the publisher's own columns and units."""

    def __init__(self, ads: Ads, users: Users) -> None:
        self._ads, self._users, self._user_ids = ads, users, users.ids()

    def table(self, rows: Impressions, *, epoch_day: int, first_id: int, ad_ids: Names = ADS) -> pa.Table:
        """The rows of one file; `epoch_day` counts from 1970-01-01, `first_id` is the first row's impression id."""
        campaign = self._ads.campaign[rows.ad]
        columns = {
            "imp_id": pa.array(np.arange(first_id, first_id + len(rows.ad))),
            "ts": pa.array(epoch_day * DAY_MS + rows.served_ms),
            "uid": self._logged_users(rows),
            "site": _names(PLACEMENT_SITES, rows.placement),
            "slot": _names(PLACEMENTS, rows.placement),
            "creative": _names(ad_ids, rows.ad),
            "camp": _names(CAMPAIGNS, campaign),
            "adv": _names(ADVERTISERS, campaign // CAMPAIGNS_PER_ADVERTISER),
            "cat": _names(CATEGORIES, self._ads.category[rows.ad]),
            "seg": _names(SEGMENTS, self._users.segment[rows.user]),
            "dev": _names(DEVICES, rows.device),
            "lh": pa.array(LOCAL_HOUR[rows.placement, rows.served_ms // HOUR_MS].astype(np.int8)),
            "pol": _names(POLICIES, rows.policy),
            "prob": pa.array(rows.propensity),
            "pricing": pa.repeat(pa.scalar("CPC"), len(rows.ad)),
            "bid_micros": pa.array(self._ads.bid_micros[rows.ad]),
            "clk": pa.array(rows.click.astype(np.int8)),
            "conv": pa.array(rows.conversion.astype(np.int8)),
            "rev_micros": pa.array(rows.click * self._ads.bid_micros[rows.ad]),
            "cost_micros": pa.array(PLACEMENT_COST_MICROS[rows.placement]),
            "out_ts": pa.array(epoch_day * DAY_MS + rows.outcome_ms),
        }
        if rows.moved is not None:
            columns["pos"] = pa.array(rows.moved.position.astype(np.int8))
            columns["elig"] = _names(_eligible(rows.moved, ad_ids), rows.placement)
        return pa.table(columns)

    def _logged_users(self, rows: Impressions) -> pa.Array:
        users = self._user_ids.take(pa.array(rows.user))
        return users if rows.moved is None else pc.if_else(pa.array(rows.moved.is_known), users, None)


def _eligible(moved: Moved, ad_ids: Names) -> Names:
    """The ads that each placement may show, as text."""
    return ["|".join(ad_ids[slot] for slot in slots if moved.is_eligible[slot]) for slots in moved.slots]


def _names(names: Names, index: IntArray) -> pa.Array:
    return pa.array(names).take(pa.array(index))


def to_bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
