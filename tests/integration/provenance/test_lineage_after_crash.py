"""Materialize and train, killed around any write, resubmitted: every object's lineage ends in landed files."""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from uuid import uuid4

import pyarrow.parquet as pq
import pytest
from lib.feature_lake import lake_table
from lib.projects import SettingsIn
from lib.training_lake import make_contract, make_rows

from liftloop.contract.contract import Contract
from liftloop.features.materialize import update_online_store
from liftloop.features.tiles import update_tiles
from liftloop.features.windows import update_feature_tables
from liftloop.gate.judge import judge
from liftloop.gate.promotion import promote_judged
from liftloop.lake.lake import Lake
from liftloop.landing.ingest import ingest_batch, pending_batches
from liftloop.operations.pending_work import write_materialized
from liftloop.provenance.lineage import trace, verify
from liftloop.registry.registry import Registry
from liftloop.settings import ONE_PROCESS
from liftloop.stack.standalone_store import standalone_object_store
from liftloop.storage.keys import BLOBS
from liftloop.storage.runs import recorded
from liftloop.storage.store import ObjectRef, Store, land
from liftloop.training.frame_builder import build_frame
from liftloop.training.train import train

DERIVED = ("tiles/", "features/", "registry/", "reports/", "runs/materialize/", "runs/train/", "audit/")


Work = Callable[[Store, Contract], None]


class Killed(BaseException):
    """The process is gone: nothing catches it."""


@dataclass
class Death:
    """Comes instead of a write, after so many or of some kind; from then on nothing is written."""

    after_writes: int = 10_000
    kind: str = ""
    written: list[str] = field(default_factory=list)

    def before(self, key: str) -> None:
        if len(self.written) == self.after_writes or kind_of(key) == self.kind:
            raise Killed
        self.written.append(key)


@dataclass(frozen=True)
class MortalStore(Store):
    """The real store, for a process that dies."""

    death: Death = field(default_factory=Death)

    def put_version(self, key: str, body: bytes, *, fingerprint: str | None = None) -> tuple[ObjectRef, str]:
        self.death.before(key)
        return super().put_version(key, body, fingerprint=fingerprint)

    def swap(self, key: str, body: bytes, *, expected_etag: str | None) -> str:
        self.death.before(key)
        return super().swap(key, body, expected_etag=expected_etag)


@pytest.fixture(scope="module")
def store(settings_in: SettingsIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalStore]:
    """Of this module alone, because `verify` hashes all there is."""
    with standalone_object_store(settings_in(tmp_path_factory.mktemp("home"))) as settings:
        yield MortalStore(settings.model_copy(update={"dask_scheduler": ONE_PROCESS}))


@pytest.fixture(scope="module")
def contract(store: MortalStore) -> Contract:
    """Of a source whose days have landed and are in the lake."""
    contract = make_contract(f"s{uuid4().hex[:8]}", keys=["ad_id"], training={"trials": 1, "maximum_rounds": 5})
    rows = make_rows()
    for day in sorted({row["event_timestamp"].date() for row in rows}):
        body = io.BytesIO()
        pq.write_table(lake_table(contract, [row for row in rows if row["event_timestamp"].date() == day]), body)
        land(store, contract.source, f"{day}.parquet", body.getvalue())
    with recorded(store, "ingest", uuid4().hex, contract.source, {}):
        for batch in pending_batches(Lake(store, contract)):
            ingest_batch(Lake(store, contract), batch)
    return contract


def make_tables(store: Store, contract: Contract) -> None:
    """The part of materialize that keeps indexes of what it made; the same run each time, as after a resubmission."""
    with recorded(store, "materialize", f"m-{contract.source}", contract.source, {}):
        update_tiles(store, contract)
        update_feature_tables(store, contract)


def live(store: Store, contract: Contract) -> None:
    """Materialize, train, judge and promote, as the flows do."""
    make_tables(store, contract)
    with recorded(store, "materialize", f"n-{contract.source}", contract.source, {}):
        update_online_store(store, contract)
        write_materialized(store, contract.source, "lake 1", None)
    run_id = f"t-{contract.source}"
    with recorded(store, "train", run_id, contract.source, {}):
        version = train(store, contract, build_frame(store, contract))
        holder = Registry(store, contract.source).champion()
        verdict = judge(store, contract, version, holder)
        promote_judged(store, verdict, holder, run_id)


def forget(store: Store, contract: Contract) -> None:
    """All that was made from the lake goes, with the blobs, which are made again only if they are gone."""
    made = [item.key for prefix in DERIVED for item in store.list(prefix) if contract.source in item.key]
    store.delete([*made, *(item.key for item in store.list(BLOBS))])


def die(work: Work, store: MortalStore, contract: Contract, after_writes: int = 10_000) -> list[str]:
    """Work from nothing until death; returns what was written."""
    forget(store, contract)
    death = Death(after_writes)
    with suppress(Killed):
        work(replace(store, death=death), contract)
    return death.written


def require_lineage(store: Store, contract: Contract) -> int:
    """Every table, frame and model ends in landed files, nothing on record is damaged; returns how many there are."""
    made = [item.key for prefix in ("tiles", "features") for item in store.list(f"{prefix}/{contract.source}/")]
    versions = Registry(store, contract.source).versions()
    keys = [key for key in made if key.endswith((".parquet", "materialized.json"))]
    keys += [ref.key for each in versions for ref in (*each.blobs, *each.fold_blobs, each.evidence) if ref is not None]
    for key in keys:
        ends = [*trace(store, key).ends()]
        assert ends, key
        assert all(end.is_landed for end in ends), key
    assert [damage for damage in verify(store)[1] if contract.source in damage.ref.key] == []
    return len(keys)


@pytest.mark.slow
def test_killed_before_any_write_of_a_table(store: MortalStore, contract: Contract) -> None:
    for at in range(len(die(make_tables, store, contract))):
        assert len(die(make_tables, store, contract, at)) == at
        make_tables(store, contract)
        assert require_lineage(store, contract) == 10  # of five days, tiles and features


def kind_of(key: str) -> str:
    """The key without what tells one source, day, part or hash from another."""
    return re.sub(r"\bs[0-9a-f]{8}\b|\b[0-9a-f]{2}\b|[0-9a-f]{12,}|\d+", "#", key)


WHOLE = 10 + 1 + 4 + 2 + 3  # tables, online store, days of the frame, model of the judged day, model with its evidence


@pytest.mark.slow
def test_killed_before_the_first_write_of_one_kind_after_another(store: MortalStore, contract: Contract) -> None:
    kinds = dict.fromkeys(map(kind_of, die(live, store, contract)))
    forget(store, contract)
    for kind in kinds:
        with pytest.raises(Killed):
            live(replace(store, death=Death(kind=kind)), contract)
    live(store, contract)
    assert require_lineage(store, contract) == WHOLE


@pytest.mark.faults_all
def test_killed_before_a_write_of_each_kind(store: MortalStore, contract: Contract) -> None:
    kinds = [kind_of(key) for key in die(live, store, contract)]
    assert require_lineage(store, contract) == WHOLE
    for at in sorted({kinds.index(kind) for kind in kinds}):
        assert len(die(live, store, contract, at)) == at
        live(store, contract)
        assert require_lineage(store, contract) == WHOLE
