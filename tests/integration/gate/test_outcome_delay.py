"""The model card's curve of how long after their impression rewards were known."""

import io
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from lib.contracts import REQUIRED, as_named, minimal_contract

from liftloop.contract.contract import Contract
from liftloop.gate.card.outcome_delay import STEPS, KnownRewards, outcome_delay_plot
from liftloop.storage.store import Store
from liftloop.training.frame import FrameIndex, FramePart, TrainingFrame

FIRST = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def make_contract(source: str, horizon: str = "8h") -> Contract:
    return minimal_contract(
        source=source,
        columns=as_named([*REQUIRED, "outcome_timestamp"]),
        outcome={"horizon": horizon},
        maturity="12h",
    )


def make_frame(store: Store, source: str, delays: list[timedelta]) -> TrainingFrame:
    """Two partitions of training rows: one rewarded after each of the delays, and as many without a reward."""
    halves = []
    for place, part in enumerate((delays[::2], delays[1::2])):
        count = len(part)
        rows = pd.DataFrame({"event_timestamp": [FIRST] * 2 * count, "click": [1] * count + [0] * count})
        rows["outcome_timestamp"] = [FIRST + delay for delay in part] + [FIRST + 8 * HOUR] * count
        body = io.BytesIO()
        rows.to_parquet(body)
        halves.append(store.put(f"features/{source}/training-{place}.parquet", body.getvalue()))
    training = FramePart(start=FIRST, end=FIRST, rows=2 * len(delays), rewards=len(delays), partitions=tuple(halves))
    index = FrameIndex(source=source, fingerprint="f", inputs=(), parts={"training": training})
    return TrainingFrame(store, index)


def test_each_reward_is_known_from_its_delay_on(store: Store, source: str) -> None:
    """One before its impression, one at once, one at a step, one just after it, and one after the horizon."""
    moment = timedelta(microseconds=1)
    step = 8 * HOUR / STEPS
    frame = make_frame(store, source, [-HOUR, timedelta(), 60 * step, 60 * step + moment, 8 * HOUR + moment])
    known = KnownRewards.of(make_contract(source), frame)
    assert known.rewards == 5
    np.testing.assert_allclose(known.shares, np.repeat([0.4, 0.6, 0.8], [60, 1, STEPS - 60]))


def test_the_card_says_what_a_shorter_maturity_would_miss(store: Store, source: str) -> None:
    contract = make_contract(source)
    plot = outcome_delay_plot(contract, make_frame(store, source, [HOUR / 2] * 12 + [3 * HOUR] * 3 + [7 * HOUR] * 5))
    assert plot is not None
    assert plot.caption.startswith("Share of the 20 clicks of the training part that were known so long after their")
    assert "up to the horizon, 8 h; the dashed line is the contract's maturity, 12 h." in plot.caption
    missed = "25.0% at 4 h, 40.0% at 2 h, 40.0% at 1 h"
    assert plot.caption.endswith(f"With a shorter one, the newest impressions would miss rewards: {missed}.")
    assert b"hours since the impression" in plot.svg


def test_without_times_of_outcomes_or_a_horizon_there_is_no_curve(store: Store, source: str) -> None:
    frame = make_frame(store, source, [HOUR])
    assert outcome_delay_plot(minimal_contract(source=source), frame) is None
    assert outcome_delay_plot(make_contract(source, horizon="0s"), frame) is None
