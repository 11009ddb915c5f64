"""The users who see the ads: fixed traits, and an activity with a heavy tail."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from liftloop.datasets.simulated.catalogue import DEVICE_SHARE, ENGAGEMENT_SHARE, SEGMENT_SHARE
from liftloop.datasets.simulated.draws import FloatArray, IntArray

IMPRESSIONS_PER_USER = 25
ACTIVITY_SPREAD = 1.5  # of its logarithm: the busiest 1 % see about a fifth of all impressions


@dataclass(frozen=True)
class Users:
    """One element per user, all of shape (users,); indices into the catalogue's tuples."""

    segment: IntArray
    engagement: IntArray  # hidden: seen only through what the user clicks
    device: IntArray  # the habitual one
    activity: FloatArray  # share of all impressions, sums to 1

    def ids(self) -> pa.Array:
        return pa.array([f"u{index:07d}" for index in range(len(self.segment))])


def draw_users(seed: int, impressions: int) -> Users:
    """A pool that grows with the number of impressions."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))
    count = max(100, impressions // IMPRESSIONS_PER_USER)
    activity = rng.lognormal(sigma=ACTIVITY_SPREAD, size=count)
    segment, engagement, device = (
        rng.choice(len(share), count, p=share) for share in (SEGMENT_SHARE, ENGAGEMENT_SHARE, DEVICE_SHARE)
    )
    return Users(segment, engagement, device, activity / activity.sum())
