"""What waits to be done for a source, read off the store alone: so that no lost event leaves it undone."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from liftloop.contract.contract import Contract
from liftloop.contract.suite import rules_fingerprint
from liftloop.lake.ledger import pending
from liftloop.storage.hashing import fingerprint_of
from liftloop.storage.keys import impressions_prefix, materialized_lake_key
from liftloop.storage.runs import Manifest, Step, read_manifests, record
from liftloop.storage.store import Listed, Store, references


class Materialized(BaseModel):
    """What the features in service were made from. `modified` is when that was put on record."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lake_version: str
    retraining: str | None  # why a training is due on them; None: it is not
    modified: datetime | None = None


def read_lake(store: Store, source: str) -> list[Listed]:
    """The files of a source's lake."""
    return list(store.list(impressions_prefix(source)))


def lake_version(contract: Contract, lake: list[Listed]) -> str:
    """Changes when a file of the lake does, or the features that the contract asks for."""
    wanted = contract.model_dump_json(include={"columns", "keys", "outcome", "feature_version"})
    return fingerprint_of(wanted, *sorted((item.key, item.etag) for item in lake))


def read_materialized(store: Store, source: str) -> Materialized | None:
    """The record of the last materialization; None before the first."""
    key = materialized_lake_key(source)
    # By listing: it tells the time to the millisecond, an answer to HEAD or GET only to the second.
    item = next((item for item in store.list(key) if item.key == key), None)
    if item is None:
        return None
    return Materialized.model_validate_json(store.get(key)).model_copy(update={"modified": item.modified})


def write_materialized(store: Store, source: str, version: str, retraining: str | None) -> None:
    """Put on record, last of all, that the features in service know this version of the lake."""
    known, wanted = read_materialized(store, source), Materialized(lake_version=version, retraining=retraining)
    is_known = known is not None and known.lake_version == version
    if known is None or known.model_copy(update={"modified": None}) != wanted:
        store.put(materialized_lake_key(source), wanted.model_dump_json(exclude={"modified"}).encode())
    outputs = references(store, [materialized_lake_key(source)])
    record(Step(name="write_materialized", outputs=outputs, is_reused=is_known))


def features_due_since(contract: Contract, lake: list[Listed], known: Materialized | None) -> datetime | None:
    """When the first change of the lake came that the features in service do not know; None: they know all."""
    if not lake or (known is not None and known.lake_version == lake_version(contract, lake)):
        return None
    changed = [
        item.modified for item in lake if known is None or known.modified is None or item.modified >= known.modified
    ]
    return min(changed, default=max(item.modified for item in lake))


def next_stage(store: Store, contract: Contract) -> Literal["ingest", "materialize", "train"] | None:
    """The flow that has work for a source, the first in the chain; None: the loop rests until something lands."""
    if next(pending(store, contract, rules_fingerprint(contract)), None) is not None:
        return "ingest"
    known = read_materialized(store, contract.source)
    if features_due_since(contract, read_lake(store, contract.source), known) is not None:
        return "materialize"
    return "train" if known is not None and _is_training_due(store, contract.source, known) else None


def _is_training_due(store: Store, source: str, known: Materialized) -> bool:
    """Whether a training was due when the features were materialized, and none has ended since."""
    return known.retraining is not None and not any(run.ended_at for run in trainings_on(store, source, known))


def trainings_on(store: Store, source: str, known: Materialized) -> list[Manifest]:
    """The runs of `train` since the features in service were put on record."""
    return [run for run in read_manifests(store, "train", since=known.modified) if run.source == source]
