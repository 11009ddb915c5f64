"""Work that is due for a source, read from the store alone, so that a lost event leaves no work undone."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal, Self

from liftloop.contract.contract import Contract
from liftloop.lake.lake import Lake
from liftloop.lake.landed import Landed, landed_file_of
from liftloop.lake.ledger import blocked_ids, disowned, files_in_lake, pending
from liftloop.storage.frozen import Frozen
from liftloop.storage.keys import materialized_lake_key
from liftloop.storage.runs import Manifest, Step, read_manifests, record
from liftloop.storage.store import Listed, Store, references


class Materialized(Frozen):
    """The lake version that the features in service include. `modified`: when the record was written."""

    lake_version: str
    retraining: str | None  # why a training on them is due; None: it is not
    resting: str | None = None  # why it is not
    modified: datetime | None = None


def read_materialized(store: Store, source: str) -> Materialized | None:
    """The record of the last materialization; None before the first."""
    key = materialized_lake_key(source)
    # By listing, which gives the time in milliseconds; HEAD and GET give it in seconds.
    item = next((item for item in store.list(key) if item.key == key), None)
    if item is None:
        return None
    return Materialized.model_validate_json(store.get(key)).model_copy(update={"modified": item.modified})


def write_materialized(
    store: Store, source: str, version: str, retraining: str | None, resting: str | None = None
) -> None:
    """Record, as the last step, that the features in service include this version of the lake."""
    known = read_materialized(store, source)
    wanted = Materialized(lake_version=version, retraining=retraining, resting=resting)
    is_known = known is not None and known.lake_version == version
    if known is None or known.model_copy(update={"modified": None}) != wanted:
        store.put(materialized_lake_key(source), wanted.model_dump_json(exclude={"modified"}).encode())
    outputs = references(store, [materialized_lake_key(source)])
    record(Step(name="write_materialized", outputs=outputs, is_reused=is_known))


def features_due_since(lake: Lake, known: Materialized | None) -> datetime | None:
    """The time of the first change of the lake that the features in service do not include; None: they include all."""
    if not lake.files or (known is not None and known.lake_version == lake.version):
        return None
    times = [item.modified for item in lake.files]
    changed = [time for time in times if known is None or known.modified is None or time >= known.modified]
    return min(changed, default=max(times))


@dataclass(frozen=True, eq=False)
class SourceState:
    """A snapshot of the pending work of a source, from the store alone; each part is read on first use."""

    lake: Lake

    @classmethod
    def read(cls, store: Store, contract: Contract) -> Self:
        return cls(Lake(store, contract))

    @cached_property
    def landed(self) -> Landed:
        return Landed.read(self.lake.store, self.lake.contract)

    @cached_property
    def waiting(self) -> list[Listed]:
        """Landed objects that wait for ingest, oldest first, and then those whose rows are to leave the lake."""
        waiting = pending(self.lake, self.landed)
        return waiting + [item for item in disowned(self.lake, self.landed) if item not in waiting]

    @cached_property
    def outdated(self) -> list[Listed]:
        """Waiting objects with rows in the lake from an earlier version, contract, suite or reference file."""
        known = files_in_lake(self.lake)
        return [item for item in self.waiting if landed_file_of(self.landed.object_id(item)) in known]

    @cached_property
    def blocked(self) -> set[str]:
        """Ids of the landed objects that are not in the lake."""
        return blocked_ids(self.lake, self.landed)

    @cached_property
    def materialized(self) -> Materialized | None:
        return read_materialized(self.lake.store, self.lake.contract.source)

    @cached_property
    def features_due_since(self) -> datetime | None:
        return features_due_since(self.lake, self.materialized)

    @cached_property
    def trainings(self) -> list[Manifest]:
        """The runs of `train` since the features in service were recorded; empty unless those made a training due."""
        if self.materialized is None or self.materialized.retraining is None:
            return []
        manifests = read_manifests(self.lake.store, "train", since=self.materialized.modified)
        return [run for run in manifests if run.source == self.lake.contract.source]

    @property
    def is_training_due(self) -> bool:
        """Whether a training was due when the features were materialized, and none has ended since."""
        is_due = self.materialized is not None and self.materialized.retraining is not None
        return is_due and not any(run.ended_at for run in self.trainings)

    @property
    def next_stage(self) -> Literal["ingest", "materialize", "train"] | None:
        """The first flow of the chain that has work; None: there is no work until an object lands."""
        if self.waiting:
            return "ingest"
        if self.features_due_since is not None:
            return "materialize"
        return "train" if self.is_training_due else None
