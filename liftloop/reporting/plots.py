"""Plots for reports, as SVG: no window, no global state, and the same bytes for the same data."""

import io
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from liftloop.stats.columns import Floats
from liftloop.stats.interval import Interval
from liftloop.stats.scoring import ReliabilityBin

_ACCENT, _AVERAGE, _GUIDE = "#2456a6", "#c2701c", "#9aa5b1"
_WIDE = 9.6  # inches: as wide as a page of `liftloop.reporting.html`
_UNITS = [(timedelta(days=1), "days"), (timedelta(hours=1), "hours"), (timedelta(minutes=1), "minutes")]
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text, in the reader's own font
    "svg.hashsalt": "liftloop",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": "#cdd4dc",
    "axes.labelcolor": "#5f6b7a",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": "#5f6b7a",
    "ytick.color": "#5f6b7a",
}


def reliability_plot(bins: Sequence[ReliabilityBin]) -> bytes:
    """Predicted against observed reward rate; points on the diagonal are calibrated."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(5.2, 4.2), layout="constrained")
        axes = figure.subplots()
        predicted = [100 * each.mean_probability for each in bins]
        observed = [100 * each.mean_reward for each in bins]
        edge = 1.08 * max(*predicted, *observed, 1e-9)
        axes.plot([0, edge], [0, edge], color=_GUIDE, linewidth=1, linestyle="--")
        axes.plot(predicted, observed, color=_ACCENT, marker="o", markersize=5, linewidth=1.2)
        axes.set(xlim=(0, edge), ylim=(0, edge), xlabel="predicted, %", ylabel="observed, %")
        return _svg(figure)


def interval_plot(intervals: Mapping[str, Interval], *, guide: float, label: str) -> bytes:
    """One line per name: the estimate as a point, its interval as a bar, `guide` as a dashed reference line."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDE, 0.8 + 0.32 * len(intervals)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(guide, color=_GUIDE, linewidth=1, linestyle="--")
        for row, interval in enumerate(intervals.values()):
            axes.plot([interval.low, interval.high], [row, row], color=_ACCENT, linewidth=2, solid_capstyle="butt")
            axes.plot(interval.estimate, row, color=_ACCENT, marker="o", markersize=6)
        axes.set(yticks=range(len(intervals)), yticklabels=list(intervals), xlabel=label)
        axes.set_ylim(len(intervals) - 0.4, -0.6)  # the first on top
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        return _svg(figure)


def chart_plot(days: Sequence[datetime], charts: Mapping[str, Sequence[tuple[float, float]]]) -> bytes:
    """One row per name: each day's score and the moving average, as shares of their limit (dashed, 1 and -1).

    Args:
        charts: pairs of score and average, one for each of `days`; NaN where there is none.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDE, 1.5 * len(charts)), layout="constrained")
        rows = figure.subplots(len(charts), sharex=True, squeeze=False)[:, 0]
        for axes, (name, pairs) in zip(rows, charts.items(), strict=True):
            scores, averages = zip(*pairs, strict=True)
            edge = 1.15 * max([1.0, *(abs(value) for pair in pairs for value in pair if value == value)])
            axes.axhline(0, color="#e3e7ec", linewidth=1)
            for limit in (-1, 1):
                axes.axhline(limit, color=_GUIDE, linewidth=1, linestyle="--")
            axes.plot(days, scores, color=_ACCENT, marker="o", markersize=3, linewidth=0.8)
            axes.plot(days, averages, color=_AVERAGE, linewidth=2)
            axes.set(ylim=(-edge, edge), ylabel=name)
        return _svg(figure)


def share_plot(shares: Mapping[str, float]) -> bytes:
    """One bar per name, labelled with its share of the whole."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDE, 0.5 + 0.28 * max(len(shares), 1)), layout="constrained")
        axes = figure.subplots()
        bars = axes.barh(list(shares), [100 * share for share in shares.values()], height=0.62, color=_ACCENT)
        axes.bar_label(bars, fmt="%.1f %%", padding=4, color="#5f6b7a")
        axes.invert_yaxis()  # the first on top
        axes.margins(x=0.12, y=0.02)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.set_xticks([])
        return _svg(figure)


def known_plot(shares: Floats, until: timedelta, mark: timedelta) -> bytes:
    """The shares known at evenly spaced times from 0 to `until`, as a curve; `mark` as a dashed reference line."""
    unit, name = next((each for each in _UNITS if until >= 2 * each[0]), _UNITS[-1])
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDE, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.axvline(mark / unit, color=_GUIDE, linewidth=1, linestyle="--")
        axes.plot(np.linspace(0, until / unit, len(shares)), 100 * shares, color=_ACCENT, linewidth=1.6)
        axes.set(ylim=(0, 104), xlabel=f"{name} since the impression", ylabel="known, %")
        axes.set_xlim(left=0)
        return _svg(figure)


def _svg(figure: Figure) -> bytes:
    body = io.BytesIO()
    figure.savefig(body, format="svg", metadata={"Date": None}, transparent=True)
    return body.getvalue()
