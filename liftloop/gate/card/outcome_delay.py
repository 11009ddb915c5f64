"""The model card's curve of censoring: how long after their impression rewards were known."""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from liftloop.contract.contract import Contract
from liftloop.reporting.html import Plot
from liftloop.reporting.plots import known_plot
from liftloop.reporting.words import in_words
from liftloop.stats.columns import Floats
from liftloop.storage.duckdb import connect, quoted
from liftloop.training.frame import TrainingFrame

STEPS = 240
_SHORTER = (2, 4, 8)  # parts of the horizon
_REWARDS_BY_STEP = """
WITH rewarded AS (
    SELECT epoch_us(outcome_timestamp) - epoch_us(event_timestamp) AS delay_us FROM training WHERE {reward} > 0
)
SELECT greatest(ceil($steps * delay_us / $horizon_us), 0)::BIGINT AS step, count(*) FROM rewarded GROUP BY step
"""


@dataclass(frozen=True)
class KnownRewards:
    """The rewards of a frame's training part, by how long after their impression they were known."""

    rewards: int
    shares: Floats  # (STEPS + 1,): those known after 0, 1, … STEPS steps of equal length, up to the horizon

    @classmethod
    def of(cls, contract: Contract, frame: TrainingFrame) -> "KnownRewards":
        """Counted in the store, because the part may exceed memory. The horizon must not be 0."""
        asked = {"steps": STEPS, "horizon_us": contract.outcome.horizon // timedelta(microseconds=1)}
        with connect(frame.store.settings) as connection:
            connection.read_parquet(frame.uris(["training"])).create_view("training")
            query = _REWARDS_BY_STEP.format(reward=quoted(contract.reward))
            counts = dict(connection.execute(query, asked).fetchall())
        rewards = sum(counts.values())
        return cls(rewards, np.cumsum([counts.get(step, 0) for step in range(STEPS + 1)]) / rewards)


def outcome_delay_plot(contract: Contract, frame: TrainingFrame) -> Plot | None:
    """The share of rewards known over the time since their impression; None if no times of outcomes are mapped."""
    horizon = contract.outcome.horizon
    if "outcome_timestamp" not in contract.outcome_columns or not horizon:
        return None
    known = KnownRewards.of(contract, frame)
    caption = (
        f"Share of the {known.rewards:,} {contract.reward}s of the training part that were known so long after their"
        f" impression, up to the horizon, {in_words(horizon)}; the dashed line is the contract's maturity,"
        f" {in_words(contract.maturity)}. With a shorter one, the newest impressions would miss rewards:"
        f" {_missed(known, horizon)}."
    )
    return Plot("Outcome delay", known_plot(known.shares, horizon, contract.maturity), caption)


def _missed(known: KnownRewards, horizon: timedelta) -> str:
    shares = {in_words(horizon / part): 1 - known.shares[STEPS // part] for part in _SHORTER}
    return ", ".join(f"{share:.1%} at {maturity}" for maturity, share in shares.items())
