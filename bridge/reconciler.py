"""Makes sure that all due work has a run: at once on a notice, and every few seconds regardless."""

import logging
import time
from collections.abc import Iterable

from bridge.dispatch import dispatch_features_and_training, dispatch_ingest
from bridge.faults import Faults
from bridge.mailbox import Mailbox
from bridge.reaper import Reaper
from bridge.runs import FlowRuns
from liftloop.contract.loading import declared_sources, load_contract
from liftloop.storage.store import Store

SWEEP_SECONDS = 10.0
MAXIMUM_TIME_SHARE = 0.1  # of sweeping: listing a large landing prefix takes seconds
REAP_SECONDS = 5.0
RECHECK_SECONDS = 2.0

log = logging.getLogger("bridge")


class Reconciler:
    """Runs one pass after the other. A failure in one pass does not end it; the next pass tries again."""

    def __init__(self, store: Store, runs: FlowRuns, reaper: Reaper, mailbox: Mailbox) -> None:
        self._store, self._runs, self._reaper, self._mailbox = store, runs, reaper, mailbox
        self._faults = Faults()
        self._to_check: set[str] = set()  # sources with a notice, or with a run that may have listed too early
        self._ingesting: set[str] = set()
        self._next_sweep = self._next_reap = 0.0

    def run(self) -> None:
        """Never returns."""
        while True:
            self.run_once()

    def run_once(self) -> None:
        """Wait until there is work, and do it."""
        self._to_check |= self._mailbox.take(self._seconds_to_wait())
        if time.monotonic() >= self._next_reap:
            with self._faults.survive("reaper"):
                self._reaper.sweep()
            self._next_reap = time.monotonic() + REAP_SECONDS
        if time.monotonic() >= self._next_sweep:
            started = time.monotonic()
            with self._faults.survive("contracts"):
                self._sweep()
            seconds = time.monotonic() - started
            self._next_sweep = time.monotonic() + max(SWEEP_SECONDS, seconds * (1 / MAXIMUM_TIME_SHARE - 1))
        elif self._to_check:
            self._ingest_waiting(self._to_check)

    def _seconds_to_wait(self) -> float:
        until_next = min(self._next_sweep, self._next_reap) - time.monotonic()
        return max(0.0, min(until_next, RECHECK_SECONDS) if self._to_check else until_next)

    def _sweep(self) -> None:
        declared = declared_sources()
        self._ingest_waiting(declared)
        for source in declared:
            with self._faults.survive(f"features of {source}"):
                contract = load_contract(source)
                is_ingesting = source in self._ingesting
                dispatch_features_and_training(self._store, self._runs, contract, is_ingesting=is_ingesting)

    def _ingest_waiting(self, sources: Iterable[str]) -> None:
        """Start an ingest of each source that has waiting objects and no ingest under way."""
        with self._faults.survive("Prefect server"):
            self._ingesting = self._runs.list_sources_under_way("ingest")
            for source in sorted(sources):
                if source in self._ingesting:
                    self._to_check.add(source)
                else:
                    self._ingest(source)

    def _ingest(self, source: str) -> None:
        self._to_check.discard(source)
        with self._faults.survive(f"ingest of {source}"):
            contract = load_contract(source)
            if dispatch_ingest(self._store, self._runs, contract):
                self._to_check.add(source)
