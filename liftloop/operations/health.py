"""Health of the loop: waiting objects, lag of the features, last successful runs, disk use."""

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from liftloop.contract.contract import Contract
from liftloop.operations.pending_work import SourceState
from liftloop.operations.training_progress import failure_words, training_progress
from liftloop.registry.registry import Registry
from liftloop.registry.versions import Pointer
from liftloop.reporting.words import in_words
from liftloop.storage.keys import RUNS
from liftloop.storage.runs import read_records
from liftloop.storage.store import CONCURRENT_REQUESTS, Listed, Store

RUNS_READ = 4 * CONCURRENT_REQUESTS  # of each flow's newest runs, to find the last success


@dataclass(frozen=True)
class SourceHealth:
    """The backlog of a source, the state of its features and trainings, and its champion."""

    contract: Contract
    waiting: int
    outdated: int  # objects that are read again, because contract, suite or a reference file changed
    oldest: Listed | None  # waiting object
    held: int
    features_due_since: datetime | None  # first change of the lake that the features in service do not include
    champion: Pointer | None
    training: str  # what becomes of it, or why none is due
    training_failure: str | None  # of the due training; None once a run has succeeded

    def misses(self, now: datetime) -> list[str]:
        """Sentences on failed trainings, and on work that misses the contract's freshness objective."""
        late = []
        if self.oldest is not None:
            late.append((f"{self.oldest.key} has waited in landing", now - self.oldest.modified))
        if self.features_due_since is not None:
            late.append(("the features have lagged behind the lake", now - self.features_due_since))
        limit = self.contract.freshness
        failed = [f"{self.contract.source}: {self.training_failure}"] if self.training_failure else []
        return failed + [
            f"{self.contract.source}: {what} for {in_words(waited)}, {in_words(waited - limit)} longer than the"
            f" contract's freshness of {in_words(limit)}"
            for what, waited in late
            if waited > limit
        ]


def source_health(store: Store, contract: Contract, now: datetime) -> SourceHealth:
    """The health of a source, read from the store alone."""
    state = SourceState.read(store, contract)
    outdated = {item.key for item in state.outdated}
    new = [item for item in state.waiting if item.key not in outdated]
    return SourceHealth(
        contract=contract,
        waiting=len(new),
        outdated=len(state.outdated),
        oldest=min(new, key=lambda item: item.modified, default=None),
        held=len(state.blocked),
        features_due_since=state.features_due_since,
        champion=Registry(store, contract.source).champion(),
        training=training_progress(state, now),
        training_failure=failure_words(state.trainings),
    )


def last_successes(store: Store, sources: Sequence[str]) -> dict[str, dict[str, datetime]]:
    """By flow and source, the end of the newest completed run, if it is among the flow's newest `RUNS_READ` runs."""
    keys: dict[str, list[str]] = defaultdict(list)
    for item in sorted(store.list(RUNS), key=lambda item: item.modified, reverse=True):
        keys[item.key.split("/")[1]].append(item.key)
    return {flow: _successes(store, keys[flow][:RUNS_READ], sources) for flow in sorted(keys)}


def _successes(store: Store, keys: Sequence[str], sources: Sequence[str]) -> dict[str, datetime]:
    """Reads manifests from the newest on until every source is found."""
    found: dict[str, datetime] = {}
    for start in range(0, len(keys), CONCURRENT_REQUESTS):
        for manifest in read_records(store, keys[start : start + CONCURRENT_REQUESTS]).values():
            if manifest and manifest.status == "completed" and manifest.ended_at is not None:
                found[manifest.source] = max(manifest.ended_at, found.get(manifest.source, manifest.ended_at))
        if found.keys() >= set(sources):
            break
    return found


def disk_use(home: Path) -> dict[str, int]:
    """Bytes on disk by folder of the embedded stack's home."""
    return {folder.name: _bytes_below(folder) for folder in sorted(home.iterdir()) if folder.is_dir()}


def _bytes_below(folder: Path) -> int:
    total_bytes = 0
    for path, _, files in os.walk(folder):
        for file in files:
            try:
                total_bytes += os.lstat(os.path.join(path, file)).st_blocks * 512  # POSIX counts blocks of 512 bytes
            except FileNotFoundError:  # removed since it was listed
                continue
    return total_bytes
