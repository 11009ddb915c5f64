"""How old the newest known event is when a decision is made, which a join by event time would not see.

Files land after their events, and between two landings the newest known event grows older. The delay is the least
number of whole hours that suffices half of the time: half, because an outage must not count for the weeks around it,
and whole hours, because tiles are hourly. A bulk load of history takes no time, and so has no weight.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import count
from typing import Literal

import numpy as np

from liftloop.contract.contract import Contract
from liftloop.features.definitions import LONGEST_WINDOW
from liftloop.lake.ledger import Entry, ingested_recently
from liftloop.storage.frozen import Frozen
from liftloop.storage.keys import landing_prefix
from liftloop.storage.store import Store

Landing = tuple[datetime, datetime]  # when a file landed, and its newest event

MEASURED_SPAN = timedelta(days=14)
SHORTEST_SPAN = timedelta(days=1)  # of landings; less does not show a rhythm of days
_HOUR = timedelta(hours=1)


class LandingDelay(Frozen):
    """By how much the features of an impression are older than the impression."""

    hours: int = 0
    origin: Literal["contract", "measured", "not measured"] = "not measured"

    def __str__(self) -> str:
        return f"{self.hours} h ({self.origin})"

    def pinned(self, contract: Contract) -> Contract:
        """The contract with this delay, which is then not measured again."""
        return contract.model_copy(update={"landing_delay": self.hours * _HOUR})


def measure_landing_delay(store: Store, contract: Contract) -> LandingDelay:
    """The contract's `landing_delay`, or else what the ledger shows; of several kinds of files, the longest."""
    if contract.landing_delay is not None:
        return LandingDelay(hours=contract.landing_delay // _HOUR, origin="contract")
    entries = ingested_recently(store, contract.source, MEASURED_SPAN)
    kinds = (hours_behind(landings, contract.freshness) for landings in _by_kind(contract, entries))
    measured = [hours for hours in kinds if hours is not None]
    return LandingDelay(hours=max(measured), origin="measured") if measured else LandingDelay()


def hours_behind(landings: Iterable[Landing], freshness: timedelta) -> int | None:
    """Whole hours that suffice half of the time, over the newest two weeks; None if less than a day of it is known.

    Files whose newest event was older than the longest window when they landed are history, and do not count.

    Args:
        freshness: time from the landing of a file to features that are served.
    """
    live = sorted((at, min(event, at)) for at, event in landings if at - event <= LONGEST_WINDOW)
    if not live or live[-1][0] - live[0][0] < SHORTEST_SPAN:
        return None
    landed, events = (np.array([each.timestamp() for each in times]) for times in zip(*live, strict=True))
    start = np.maximum(landed, landed[-1] - MEASURED_SPAN.total_seconds())
    seconds, youngest = np.diff(start), start - np.maximum.accumulate(events) + freshness.total_seconds()
    return next(
        hours for hours in count() if 2 * np.clip(hours * 3600 - youngest[:-1], 0, seconds).sum() >= seconds.sum()
    )


def _by_kind(contract: Contract, entries: Iterable[Entry]) -> Iterable[list[Landing]]:
    """The landings of impressions, and of each kind of outcomes in files of their own."""
    kinds: dict[str | None, list[Landing]] = defaultdict(list)
    for entry in entries:
        if entry.landed_at and entry.newest_event:
            relative_key = entry.landed.key.removeprefix(landing_prefix(contract.source))
            kinds[contract.outcome_files_of(relative_key)].append((entry.landed_at, entry.newest_event))
    return kinds.values()
