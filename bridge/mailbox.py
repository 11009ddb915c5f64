"""Between the thread that takes notices and the one that acts on them."""

import time
from collections.abc import Collection
from threading import Condition


class Mailbox:
    """Sources that something landed for. However many notices come, it holds each source once."""

    def __init__(self) -> None:
        self._sources: set[str] = set()
        self._arrival = Condition()
        self._taken = time.monotonic()

    def put(self, sources: Collection[str]) -> None:
        """Leave word and wake who waits."""
        with self._arrival:
            self._sources |= {*sources}
            self._arrival.notify()

    def take(self, timeout_seconds: float) -> set[str]:
        """What came in; waits for something to come, but not longer than the timeout."""
        with self._arrival:
            self._arrival.wait_for(lambda: self._sources, timeout_seconds)
            taken, self._sources = self._sources, set()
            self._taken = time.monotonic()
        return taken

    def seconds_since_taken(self) -> float:
        """How long ago who acts on them last came by."""
        return time.monotonic() - self._taken
