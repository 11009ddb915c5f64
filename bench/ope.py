"""Off-policy values of Thompson sampling on Open Bandit, beside what it truly brought.

    python -m bench.ope

Ours is how far the estimate is from the click rate of Thompson sampling's own impressions in the same week, the peer is
how far chance may bring them apart: half the width of a 95 % interval of their difference.
"""

import math
import tempfile
from pathlib import Path

from bench.measure import Case, console, report
from liftloop.datasets.open_bandit import obtain
from liftloop.datasets.open_bandit_value import off_policy_page, off_policy_values
from liftloop.settings import load_settings
from liftloop.stats.interval import Interval


def main() -> None:
    values = off_policy_values(obtain(load_settings().home / "cache"))
    page = Path(tempfile.gettempdir(), "liftloop-off-policy.html")
    page.write_text(off_policy_page(values), encoding="utf-8")
    console.print(f"page: {page}")
    for value in values:
        console.print(
            f"{value.campaign:<8} live {value.on_policy:.2%}   logged {value.logged:.2%}"
            f"   effective sample {value.effective_sample_size:,.0f}   agreement {value.agreement:.2f}"
        )
        for name, estimate in value.estimates.items():
            console.print(f"  {name:<12}{estimate:.2%}")
    cases = [
        Case(f"{value.campaign}, {name}", *_disagreement(estimate, value.on_policy), 1.0, "%")
        for value in values
        for name, estimate in value.estimates.items()
    ]
    report("ope", cases)


def _disagreement(estimate: Interval, truth: Interval) -> tuple[float, float]:
    """How far apart they are, and how far chance may well bring them, in percent."""
    halves = [(interval.high - interval.low) / 2 for interval in (estimate, truth)]
    return 100 * abs(estimate.estimate - truth.estimate), 100 * math.hypot(*halves)


if __name__ == "__main__":
    main()
