"""The loop: on a notice at once, and every few seconds in any case, see that all due work has a run."""

import logging
import time
from collections.abc import Iterable

from bridge.dispatch import dispatch_features_and_training, dispatch_ingest
from bridge.faults import Faults
from bridge.mailbox import Mailbox
from bridge.reaper import Reaper
from bridge.runs import FlowRuns
from liftloop.contract.contract import declared_sources, load_contract
from liftloop.storage.store import Store

SWEEP_SECONDS = 10.0
SHARE_OF_TIME = 0.1  # that sweeping may take: to list a large landing prefix takes seconds
REAP_SECONDS = 5.0
LOOK_AGAIN_SECONDS = 2.0

log = logging.getLogger("bridge")


class Loop:
    """One pass after the other. Nothing that fails in one ends it: the next tries again."""

    def __init__(self, store: Store, runs: FlowRuns, reaper: Reaper, mailbox: Mailbox) -> None:
        self._store, self._runs, self._reaper, self._mailbox = store, runs, reaper, mailbox
        self._faults = Faults()
        self._to_look_at: set[str] = set()  # a notice came, or a run is under way that may have listed before it
        self._ingesting: set[str] = set()
        self._next_sweep = self._next_reap = 0.0

    def run(self) -> None:
        """Never returns."""
        while True:
            self.step()

    def step(self) -> None:
        """Wait until something is to be done, and do it."""
        self._to_look_at |= self._mailbox.take(self._seconds_to_wait())
        if time.monotonic() >= self._next_reap:
            with self._faults.outlive("reaper"):
                self._reaper.look()
            self._next_reap = time.monotonic() + REAP_SECONDS
        if time.monotonic() >= self._next_sweep:
            began = time.monotonic()
            with self._faults.outlive("contracts"):
                self._sweep()
            took = time.monotonic() - began
            self._next_sweep = time.monotonic() + max(SWEEP_SECONDS, took * (1 / SHARE_OF_TIME - 1))
        elif self._to_look_at:
            self._look_at(self._to_look_at)

    def _seconds_to_wait(self) -> float:
        until_next = min(self._next_sweep, self._next_reap) - time.monotonic()
        return max(0.0, min(until_next, LOOK_AGAIN_SECONDS) if self._to_look_at else until_next)

    def _sweep(self) -> None:
        declared = declared_sources()
        self._look_at(declared)
        for source in declared:
            with self._faults.outlive(f"features of {source}"):
                contract = load_contract(source)
                is_ingesting = source in self._ingesting
                dispatch_features_and_training(self._store, self._runs, contract, is_ingesting=is_ingesting)

    def _look_at(self, sources: Iterable[str]) -> None:
        """Start an ingest of each source where something waits and none is under way."""
        with self._faults.outlive("Prefect server"):
            self._ingesting = self._runs.sources_under_way("ingest")
            for source in sorted(sources):
                if source in self._ingesting:
                    self._to_look_at.add(source)
                else:
                    self._ingest(source)

    def _ingest(self, source: str) -> None:
        self._to_look_at.discard(source)
        with self._faults.outlive(f"ingest of {source}"):
            contract = load_contract(source)
            if dispatch_ingest(self._store, self._runs, contract):
                self._to_look_at.add(source)
