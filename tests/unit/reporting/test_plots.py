"""Plots whose axes depend on what they show."""

from datetime import timedelta

import numpy as np
import pytest

from liftloop.reporting.plots import known_plot


@pytest.mark.parametrize(
    ("until", "unit"),
    [
        (timedelta(days=2), "days"),
        (timedelta(hours=47), "hours"),
        (timedelta(hours=1), "minutes"),
        (timedelta(seconds=90), "minutes"),
    ],
)
def test_times_are_in_the_largest_unit_that_the_curve_spans_twice(until: timedelta, unit: str) -> None:
    svg = known_plot(np.linspace(0, 1, 5), until, mark=until)
    assert f"{unit} since the impression".encode() in svg
