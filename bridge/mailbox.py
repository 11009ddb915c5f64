"""Passes sources from the thread that receives notices to the thread that acts on them."""

import time
from collections.abc import Collection
from threading import Condition


class Mailbox:
    """Sources for which something landed. It holds each source once, however many notices arrive.

    `records_not_understood`: of all notices since the start. The sweep finds the objects that they are about.
    """

    def __init__(self) -> None:
        self.records_not_understood = 0
        self._sources: set[str] = set()
        self._arrival = Condition()
        self._taken = time.monotonic()

    def put(self, sources: Collection[str]) -> None:
        """Add sources and wake the waiting thread."""
        with self._arrival:
            self._sources |= {*sources}
            self._arrival.notify()

    def take(self, timeout_seconds: float) -> set[str]:
        """Remove and return the sources; waits for one to arrive, at most until the timeout."""
        with self._arrival:
            self._arrival.wait_for(lambda: self._sources, timeout_seconds)
            taken, self._sources = self._sources, set()
            self._taken = time.monotonic()
        return taken

    def seconds_since_taken(self) -> float:
        """Seconds since the last call of `take`."""
        return time.monotonic() - self._taken
