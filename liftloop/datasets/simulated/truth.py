"""What only the simulator knows: the true click probability of every (context, ad), for benchmarks and the demo.

A folder outside every prefix that the pipeline reads, with three Parquet files: `contexts` (context_id and its parts),
`click_probability` (context_id, ad_id, click_probability; eligible ads only) and `users` (user_id and hidden traits).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike

from liftloop.datasets.simulated.catalogue import ADS, DEVICES, PLACEMENTS, SEGMENTS
from liftloop.datasets.simulated.draws import FloatArray, IntArray
from liftloop.datasets.simulated.users import Users
from liftloop.datasets.simulated.world import CONTEXT_SHAPE, LOCAL_HOUR, World


class TruthError(ValueError):
    """A lookup names something that is not in the simulated world."""


def write_truth(world: World, users: Users, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(_contexts(), folder / "contexts.parquet")
    pq.write_table(_click_probability(world), folder / "click_probability.parquet")
    pq.write_table(_users(users), folder / "users.parquet")


def _contexts() -> pa.Table:
    placement, segment, engagement, device, utc_hour = (part.ravel() for part in np.indices(CONTEXT_SHAPE))
    return pa.table(
        {
            "context_id": np.arange(np.prod(CONTEXT_SHAPE)),
            "placement_id": np.array(PLACEMENTS)[placement],
            "segment": np.array(SEGMENTS)[segment],
            "engagement": engagement,
            "device": np.array(DEVICES)[device],
            "utc_hour": utc_hour,
            "local_hour": LOCAL_HOUR[placement, utc_hour],
        }
    )


def _click_probability(world: World) -> pa.Table:
    eligible = world.eligible_ads.shape[1]
    placement = np.indices(CONTEXT_SHAPE)[0].ravel()
    return pa.table(
        {
            "context_id": np.repeat(np.arange(len(placement)), eligible),
            "ad_id": np.array(ADS)[world.eligible_ads[placement]].ravel(),
            "click_probability": world.click_probability.ravel(),
        }
    )


def _users(users: Users) -> pa.Table:
    return pa.table(
        {
            "user_id": users.ids(),
            "segment": np.array(SEGMENTS)[users.segment],
            "engagement": users.engagement,
            "device": np.array(DEVICES)[users.device],
        }
    )


@dataclass(frozen=True)
class Truth:
    """Looks up the true click probability of any impression, logged or counterfactual."""

    _users: pd.DataFrame  # segment and engagement (their positions in the catalogue) by user_id
    _click_probability: FloatArray  # (contexts, ads); nan where the placement does not take the ad

    @classmethod
    def load(cls, folder: Path) -> "Truth":
        """Reads what `write_truth` wrote.

        Raises:
            TruthError: a file is missing.
        """
        try:
            users = pd.read_parquet(folder / "users.parquet").set_index("user_id")
            table = read_click_probability(folder)
        except FileNotFoundError as error:
            raise TruthError(f"{error.filename} is missing; run `liftloop simulate` to write it") from None
        users = users.assign(segment=_positions(SEGMENTS, users["segment"], "segment"))
        return cls(users[["segment", "engagement"]], table)

    def click_probability(
        self,
        user_id: ArrayLike,
        placement_id: ArrayLike,
        device: ArrayLike,
        event_timestamp: ArrayLike,
        ad_id: ArrayLike,
    ) -> FloatArray:
        """P(click) of showing `ad_id[i]` in the i-th context, shape (n,) as each argument; times without zone are UTC.

        nan where the placement does not take the ad.

        Raises:
            TruthError: a user, placement, device or ad is not of this world.
        """
        users = self._users.iloc[_positions(self._users.index, user_id, "user_id")]
        context = (
            _positions(PLACEMENTS, placement_id, "placement_id"),
            users["segment"].to_numpy(),
            users["engagement"].to_numpy(),
            _positions(DEVICES, device, "device"),
            pd.to_datetime(pd.Series(event_timestamp), utc=True).dt.hour.to_numpy(),
        )
        return self._click_probability[np.ravel_multi_index(context, CONTEXT_SHAPE), _positions(ADS, ad_id, "ad_id")]

    def eligible_ads(self, placement_id: str) -> list[str]:
        """The ids of the ads which the placement takes, in ascending order."""
        (placement,) = _positions(PLACEMENTS, [placement_id], "placement_id")
        by_placement = self._click_probability.reshape(len(PLACEMENTS), -1, len(ADS))
        return [ADS[ad] for ad in np.flatnonzero(~np.isnan(by_placement[placement, 0]))]


def read_click_probability(folder: Path) -> FloatArray:
    """Shape (contexts, ads); nan where the placement does not take the ad."""
    known = pd.read_parquet(folder / "click_probability.parquet")
    table = np.full((int(np.prod(CONTEXT_SHAPE)), len(ADS)), np.nan)
    table[known["context_id"], _positions(ADS, known["ad_id"], "ad_id")] = known["click_probability"]
    return table


def _positions(known: Sequence[str] | pd.Index, values: ArrayLike, name: str) -> IntArray:
    """Where in `known` each value is."""
    wanted = pd.Index(np.asarray(values, dtype=object))
    positions = pd.Index(known).get_indexer(wanted)
    if (positions < 0).any():
        raise TruthError(f"{name} {wanted[positions < 0][0]!r} is not of this simulated world")
    return positions.astype(np.int64)
