"""Amounts whose extremes are cut."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from liftloop.stats.winsorize import winsorized


def test_the_largest_share_of_what_was_earned_counts_as_the_next() -> None:
    amounts = np.r_[np.zeros(10_000), np.arange(1.0, 1001.0)]
    found = winsorized(amounts, 0.01)
    assert found.max() == 991
    assert (found[: 10_000 + 990] == amounts[: 10_000 + 990]).all()


def test_events_stay_as_they_are() -> None:
    events = np.array([0.0, 1.0, 0.0, 1.0])
    assert (winsorized(events, 0.4) == events).all()
    assert (winsorized(np.zeros(3), 0.1) == 0).all()


@settings(max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0, 0.49))
def test_nothing_grows_or_changes_its_sign(amounts: list[float], share: float) -> None:
    found = winsorized(amounts, share)
    assert (np.abs(found) <= np.abs(amounts)).all()
    assert (found * np.array(amounts) >= 0).all()
