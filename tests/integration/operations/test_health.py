"""What waits, what is behind and which flows last worked, read off a real object store."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from lib.gate_lake import make_contract

from liftloop.contract.contract import Contract
from liftloop.lake.lake import Lake
from liftloop.lake.landed import Landed
from liftloop.lake.ledger import Entry, write_entry
from liftloop.operations.health import RUNS_READ, last_successes, source_health
from liftloop.operations.pending_work import write_materialized
from liftloop.storage.keys import impressions_prefix, landing_prefix
from liftloop.storage.runs import WAITING, Manifest, Step
from liftloop.storage.store import ObjectRef, Store, concurrently

NOW = datetime.now(UTC)
START = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def contract() -> Contract:
    return make_contract(f"s{uuid4().hex[:8]}")


def test_a_source_that_nothing_landed_for_is_well(store: Store, contract: Contract) -> None:
    found = source_health(store, contract, NOW)
    assert (found.waiting, found.oldest, found.held) == (0, None, 0)
    assert (found.features_due_since, found.champion) == (None, None)
    assert found.misses(datetime.now(UTC) + timedelta(days=1)) == []


def test_what_waits_is_counted_and_the_oldest_named(store: Store, contract: Contract) -> None:
    for name in ("b", "a", "c"):
        store.put(f"{landing_prefix(contract.source)}{name}.parquet", b"rows")
    found = source_health(store, contract, NOW)
    assert found.waiting == 3
    assert found.oldest is not None
    landed = [item.modified for item in store.list(landing_prefix(contract.source))]
    assert found.oldest.modified == min(landed)
    missed = found.misses(datetime.now(UTC) + timedelta(hours=1))
    assert [line.partition(" for ")[0] for line in missed] == [
        f"{contract.source}: {found.oldest.key} has waited in landing"
    ]


def test_held_files_do_not_wait(store: Store, contract: Contract) -> None:
    store.put(f"{landing_prefix(contract.source)}a.parquet", b"rows")
    (item,) = store.list(landing_prefix(contract.source))
    object_id = Landed.read(store, contract).object_id(item)
    entry = Entry(object_id=object_id, landed=ObjectRef(item.key, "0" * 64, 1), status="held")
    write_entry(store, contract.source, entry, is_held=False)
    found = source_health(store, contract, NOW)
    assert (found.waiting, found.held) == (0, 1)


def test_what_is_read_again_is_counted_by_itself(store: Store, contract: Contract) -> None:
    store.put(f"{landing_prefix(contract.source)}a.parquet", b"rows")
    landed = Landed.read(store, contract)
    (object_id,) = landed.by_id
    corrected = contract.model_copy(update={"deduplicate_by": ("impression_id", "ad_id")})
    (other_id,) = Landed.read(store, corrected).by_id
    store.put(f"{impressions_prefix(contract.source)}date=2026-01-05/{object_id}.parquet", b"rows")
    found = source_health(store, corrected, NOW)
    assert (found.waiting, found.outdated, found.oldest) == (0, 1, None)
    assert object_id != other_id
    gate = contract.model_copy(update={"maturity": timedelta(days=3)})
    assert [*Landed.read(store, gate).by_id] == [object_id]


def test_features_are_behind_until_they_know_the_lake(store: Store, contract: Contract) -> None:
    store.put(f"lake/{contract.source}/impressions/date=2026-03-01/x.parquet", b"rows")
    lake = Lake(store, contract)
    (file,) = lake.files
    found = source_health(store, contract, NOW)
    assert found.features_due_since == file.modified
    assert len(found.misses(datetime.now(UTC) + timedelta(hours=1))) == 1
    write_materialized(store, contract.source, lake.version, None)
    assert source_health(store, contract, NOW).features_due_since is None


def put_run(store: Store, flow: str, number: int, source: str, status: str, *steps: Step) -> None:
    manifest = Manifest.model_validate(
        {
            "flow": flow,
            "run_id": f"{number:04}",
            "source": source,
            "status": status,
            "steps": steps,
            "started_at": START + timedelta(minutes=number),
            "ended_at": START + timedelta(minutes=number + 1) if status != "running" else None,
            "code_revision": "abc",
            "lock_sha256": None,
        }
    )
    manifest.write(store)


def test_trainings_that_fail_on_the_newest_features_are_counted_until_one_works(
    store: Store, contract: Contract
) -> None:
    write_materialized(store, contract.source, "v1", "there is no model yet")
    assert source_health(store, contract, NOW).training == "due, and no run has begun: there is no model yet"
    for number, status in enumerate(("failed", "crashed")):
        put_run(store, "train", number, contract.source, status)
    failure = "the due training has failed 2 times; the last: crashed"
    found = source_health(store, contract, NOW)
    assert (found.training, found.training_failure) == (failure, failure)
    assert f"{contract.source}: {failure}" in found.misses(NOW)
    put_run(store, "train", 2, contract.source, "running")
    assert source_health(store, contract, NOW).training.startswith("under way, started ")
    put_run(store, "train", 3, contract.source, "completed")
    found = source_health(store, contract, NOW)
    assert found.training_failure is None
    assert found.training.startswith("done ")


def test_a_training_that_waits_names_the_run_before_it(store: Store, contract: Contract) -> None:
    write_materialized(store, contract.source, "v1", "there is no model yet")
    waits = Step(name=WAITING, metrics={"behind": "train other 2026-03-01 #1"})
    put_run(store, "train", 0, contract.source, "running", waits)
    words = source_health(store, contract, NOW).training
    assert words.startswith("waits for its turn behind train other 2026-03-01 #1, started ")


def test_a_source_that_rests_says_why(store: Store, contract: Contract) -> None:
    assert source_health(store, contract, NOW).training == "waits for the first features"
    write_materialized(store, contract.source, "v1", None, "too few have matured")
    assert source_health(store, contract, NOW).training == "not due: too few have matured"


class CountsReads(Store):
    """Notes the flow of every manifest that it reads."""

    def get(self, key: str) -> bytes:
        vars(self).setdefault("reads", []).append(key.split("/")[1])
        return super().get(key)


def test_the_last_success_of_each_flow_and_source(store: Store) -> None:
    flow, other, source = f"f{uuid4().hex[:8]}", f"g{uuid4().hex[:8]}", "shop"
    for number, status in enumerate(["completed", "completed", "failed", "crashed", "running"]):
        put_run(store, flow, number, source, status)
    put_run(store, other, 9, "bazaar", "completed")
    found = last_successes(store, [source])
    assert found[flow] == {source: START + timedelta(minutes=2)}
    assert found[other] == {"bazaar": START + timedelta(minutes=10)}


def test_only_the_newest_runs_are_read(store: Store) -> None:
    many, never = f"f{uuid4().hex[:8]}", f"g{uuid4().hex[:8]}"
    concurrently(lambda number: put_run(store, many, number, "shop", "completed"), range(RUNS_READ))
    concurrently(lambda number: put_run(store, never, number, "shop", "failed"), range(RUNS_READ + 5))
    counting = CountsReads(store.settings)
    found = last_successes(counting, ["shop"])
    reads = vars(counting)["reads"]
    assert "shop" in found[many]
    assert found[never] == {}
    assert 0 < reads.count(many) < RUNS_READ
    assert reads.count(never) == RUNS_READ
