"""Draws impressions and their outcomes: user, ad, placement, time, policy, click and conversion."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from liftloop.datasets.simulated.catalogue import (
    DEVICE_SHARE,
    DEVICES,
    HABITUAL_DEVICE_SHARE,
    PLACEMENTS,
    POLICY_SHARE,
    SEGMENTS,
)
from liftloop.datasets.simulated.draws import ConditionalDraw, FloatArray, IntArray, heavy_tailed_delay_ms
from liftloop.datasets.simulated.today import LARGEST_PROBABILITY, Moved, Today
from liftloop.datasets.simulated.users import Users
from liftloop.datasets.simulated.world import CONTEXT_SHAPE, World

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
CLICK_WINDOW_SECONDS = 30 * 60
CONVERSION_WINDOW_SECONDS = 2 * 24 * 3600


@dataclass(frozen=True)
class Impressions:
    """Shape (n,) each, in the order of time; indices into the catalogue, milliseconds since midnight UTC."""

    served_ms: IntArray
    outcome_ms: IntArray  # may lie on a later day
    user: IntArray
    placement: IntArray
    device: IntArray
    ad: IntArray
    policy: IntArray
    propensity: FloatArray
    click: IntArray
    conversion: IntArray
    context: IntArray  # as the world's `CONTEXT_SHAPE` numbers them
    moved: Moved | None = None  # None: the world does not move


class Traffic:
    """The distributions of a world and its users, ready to draw from."""

    def __init__(self, world: World, users: Users) -> None:
        self.world, self.users = world, users
        placement_hour = world.context_share.sum(axis=(1, 2, 3))
        self._hour_edges = np.concatenate([[0.0], np.cumsum(placement_hour.sum(axis=0))])
        self._placement_by_hour = ConditionalDraw((placement_hour / placement_hour.sum(axis=0)).T)
        self._user = ConditionalDraw(users.activity[None, :])
        self._device_by_habit = ConditionalDraw(
            HABITUAL_DEVICE_SHARE * np.eye(len(DEVICES)) + (1 - HABITUAL_DEVICE_SHARE) * DEVICE_SHARE
        )
        self._policy = ConditionalDraw(POLICY_SHARE[None, :])
        self._ad_by_decision = _draw_of(world.propensity)

    def draw(
        self, rng: np.random.Generator, count: int, *, start: float, end: float, today: Today | None = None
    ) -> Impressions:
        """Impressions of one day's traffic between the shares `start` and `end` of it, `0 <= start < end <= 1`.

        Args:
            today: the state of a world that moves, which is carried on; None: the world does not.
        """
        world, everyone = self.world, np.zeros(count, dtype=np.int64)
        served_ms = self._draw_times(rng, count, start, end)
        hour = served_ms // HOUR_MS
        placement = self._placement_by_hour(rng, hour)
        user = self._user(rng, everyone)
        segment = self.users.segment[user]
        device = self._device_by_habit(rng, self.users.device[user])
        policy = self._policy(rng, everyone)

        decision = (policy * len(PLACEMENTS) + placement) * len(SEGMENTS) + segment
        moved = today.move(rng, user, end) if today else None
        propensities = world.propensity if moved is None else _among(world, moved.is_eligible)
        ad_by_decision = self._ad_by_decision if moved is None else _draw_of(propensities)
        choice = ad_by_decision(rng, decision)
        ad = world.eligible_ads[placement, choice]
        context = np.ravel_multi_index((placement, segment, self.users.engagement[user], device, hour), CONTEXT_SHAPE)
        eligible = world.eligible_ads.shape[1]
        probability = world.click_probability.reshape(-1)[context * eligible + choice]
        if moved is not None:
            probability = np.minimum(probability * moved.row_factor * moved.slot_factor[ad], LARGEST_PROBABILITY)
        is_click = rng.random(count) < probability
        conversion, outcome_ms = _draw_outcomes(rng, served_ms, is_click, world.ads.conversion_rate[ad])
        propensity = propensities.reshape(-1)[decision * eligible + choice]
        click = is_click.astype(np.int64)
        if today is not None:
            today.spend(world.ads.campaign[ad], click * world.ads.bid_micros[ad])
        return Impressions(
            served_ms, outcome_ms, user, placement, device, ad, policy, propensity, click, conversion, context, moved
        )

    def _draw_times(self, rng: np.random.Generator, count: int, start: float, end: float) -> IntArray:
        """Sorted milliseconds since midnight UTC, by the inverse of the day's cumulative traffic."""
        share = np.sort(rng.uniform(start, end, count))
        served_ms = np.interp(share, self._hour_edges, np.arange(25) * HOUR_MS)
        return np.minimum(served_ms.astype(np.int64), DAY_MS - 1)


def _draw_of(propensity: FloatArray) -> ConditionalDraw:
    return ConditionalDraw(propensity.reshape(-1, propensity.shape[-1]))


def _among(world: World, is_eligible: NDArray[np.bool_]) -> FloatArray:
    """The propensities if only these slots may be shown, in the shares that they have among themselves."""
    allowed = world.propensity * is_eligible[world.eligible_ads][None, :, None, :]
    return np.asarray(allowed / allowed.sum(axis=-1, keepdims=True))


def _draw_outcomes(
    rng: np.random.Generator, served_ms: IntArray, is_click: np.ndarray, conversion_rate: FloatArray
) -> tuple[IntArray, IntArray]:
    """Conversions (0/1), and when each outcome became known: no click, the click, or the conversion after it."""
    clicked = np.flatnonzero(is_click)
    converted = clicked[rng.random(len(clicked)) < conversion_rate[clicked]]
    outcome_ms = served_ms + CLICK_WINDOW_SECONDS * 1000
    outcome_ms[clicked] = served_ms[clicked] + heavy_tailed_delay_ms(
        rng, len(clicked), scale_seconds=12, shape=1.1, limit_seconds=CLICK_WINDOW_SECONDS
    )
    outcome_ms[converted] += heavy_tailed_delay_ms(
        rng, len(converted), scale_seconds=1800, shape=0.9, limit_seconds=CONVERSION_WINDOW_SECONDS
    )
    conversion = np.zeros(len(served_ms), dtype=np.int64)
    conversion[converted] = 1
    return conversion, outcome_ms
