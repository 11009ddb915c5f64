"""One day of a world that moves: budgets that are spent, users who tire, and ads that compete."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from liftloop.datasets.simulated.catalogue import CAMPAIGNS
from liftloop.datasets.simulated.draws import FloatArray, IntArray
from liftloop.datasets.simulated.effects import Effects
from liftloop.datasets.simulated.motion import POSITIONS, Motion
from liftloop.datasets.simulated.world import World

LARGEST_PROBABILITY = 0.9  # of a click
_FEWEST_ELIGIBLE = 2  # in a placement; with fewer within their budgets, all of its ads that are alive


@dataclass(frozen=True)
class Moved:
    """What the day makes of the impressions of one file, and of the slots."""

    position: IntArray  # (n,), on the page, from 1
    is_known: NDArray[np.bool_]  # (n,), whether the user is logged
    row_factor: FloatArray  # (n,), multiplies the click probability of any ad shown there
    slot_factor: FloatArray  # (slots,), multiplies that of the slot's ad
    is_eligible: NDArray[np.bool_]  # (slots,)
    slots: IntArray  # (placements, slots that each takes)


@dataclass
class Today:
    """The state of one day, which its files carry on in their order."""

    effects: Effects
    motion: Motion
    world: World
    day: int
    budget_micros: float  # of each campaign
    spent_micros: IntArray  # (campaigns,), so far
    seen: IntArray  # (users,), impressions

    @classmethod
    def begin(cls, effects: Effects, motion: Motion, world: World, day: int, users: int, impressions: int) -> Self:
        """The morning of a day with so many impressions."""
        ads = world.ads
        mean_spend = impressions * float((ads.click_rate * ads.bid_micros).mean()) / len(CAMPAIGNS)
        spent, seen = np.zeros(len(CAMPAIGNS), dtype=np.int64), np.zeros(users, dtype=np.int64)
        return cls(effects, motion, world, day, effects.budget_days * mean_spend, spent, seen)

    def move(self, rng: np.random.Generator, user: IntArray, end: float) -> Moved:
        """The effects on a file's impressions, in the order of time; `end` is the share of the day that it reaches."""
        position = rng.integers(1, POSITIONS + 1, len(user))
        is_known = rng.random(len(user)) >= self.effects.cookieless
        page = np.exp(-self.effects.position * np.arange(POSITIONS))
        tired = np.exp(-self.effects.fatigue * np.log2(1 + self._see(user)))
        return Moved(
            position=position,
            is_known=is_known,
            row_factor=self.motion.level[self.day] * tired * (page / page.mean())[position - 1],
            slot_factor=self.motion.slot_factor[self.day],
            is_eligible=self._eligible(end),
            slots=self.world.eligible_ads,
        )

    def spend(self, campaign: IntArray, micros: IntArray) -> None:
        """Charge clicks to campaigns; both have shape (n,)."""
        self.spent_micros += np.bincount(campaign, micros, len(CAMPAIGNS)).astype(np.int64)

    def _see(self, user: IntArray) -> IntArray:
        """How many impressions each user had seen that day before this one, shape (n,)."""
        order = np.argsort(user, kind="stable")
        ordered = user[order]
        firsts = np.r_[0, np.flatnonzero(np.diff(ordered)) + 1]
        before = np.empty(len(user), dtype=np.int64)
        before[order] = np.arange(len(user)) - np.repeat(firsts, np.diff(np.r_[firsts, len(user)]))
        before += self.seen[user]
        self.seen += np.bincount(user, minlength=len(self.seen))
        return before

    def _eligible(self, end: float) -> NDArray[np.bool_]:
        """Slots whose ad is alive and whose campaign has spent less than its budget for the day so far."""
        is_alive: NDArray[np.bool_] = self.motion.is_alive[self.day]
        if not self.effects.budget_days:
            return is_alive
        has_budget = self.spent_micros < self.budget_micros * end
        is_eligible: NDArray[np.bool_] = is_alive & has_budget[self.world.ads.campaign]
        for slots in self.world.eligible_ads:
            if is_eligible[slots].sum() < _FEWEST_ELIGIBLE:
                is_eligible[slots] = is_alive[slots]
        return is_eligible
