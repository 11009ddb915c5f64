"""Any object walks back to its landed files by hash; what was lost or changed is named; failed runs leave a record."""

from uuid import uuid4

import pytest

from liftloop.lake.ledger import Entry, write_entry
from liftloop.provenance.lineage import UnknownObjectError, trace, verify
from liftloop.settings import Settings
from liftloop.storage.runs import Step, UnknownRunError, find_manifest, read_manifests, record, recorded
from liftloop.storage.store import ObjectRef, Store


@pytest.fixture
def store(object_store: Settings) -> Store:
    """With nothing on record yet."""
    store = Store(object_store)
    store.delete([item.key for prefix in ("runs/", "ledger/") for item in store.list(prefix)])
    return store


def landed_files(store: Store, key: str) -> set[ObjectRef]:
    """The ends of an object's lineage, which are landed files all."""
    ends = [*trace(store, key).ends()]
    assert all(end.is_landed for end in ends)
    return {end.ref for end in ends}


def run(store: Store, flow: str, *steps: tuple[list[ObjectRef], list[ObjectRef]]) -> str:
    run_id = uuid4().hex
    with recorded(store, flow, run_id, "shop", {"source": "shop"}):
        record(*(Step(name=f"{flow} step", inputs=tuple(i), outputs=tuple(o)) for i, o in steps))
    return run_id


def test_a_model_walks_back_to_the_landed_files(store: Store) -> None:
    landed = [store.put(f"landing/shop/{n}.csv", bytes([n])) for n in range(3)]
    lake = [store.put(f"lake/shop/{n}.parquet", bytes([10 + n])) for n in range(3)]
    model = store.put_blob(b"model")
    run(store, "ingest", *(([file], [rows]) for file, rows in zip(landed, lake, strict=True)))
    run(store, "train", (lake[:2], [model]))
    assert landed_files(store, model.key) == set(landed[:2])
    assert trace(store, lake[2].key).inputs[0].ref == landed[2]


def test_only_the_version_that_was_read_counts(store: Store) -> None:
    old, new = store.put("landing/shop/a.csv", b"old"), store.put("landing/shop/a.csv", b"new")
    first, second = store.put("lake/1", b"1"), store.put("lake/2", b"2")
    run(store, "ingest", ([old], [first]))
    run(store, "ingest", ([new], [second]))
    assert landed_files(store, "lake/1") == {old}
    assert landed_files(store, "lake/2") == {new}


def test_what_a_killed_run_ingested_walks_back_by_the_ledger(store: Store) -> None:
    """It was killed after the object was settled and before its manifest had the step."""
    landed, lookup = store.put("landing/shop/b.csv", b"rows"), store.put("landing/shop/items.csv", b"items")
    output = store.put("lake/shop/impressions/date=2026-01-05/0123456789abcdef.parquet", b"lake")
    entry = Entry(
        object_id="0123456789abcdef",
        landed=landed,
        lookups=(lookup,),
        status="ingested",
        outputs=(output,),
    )
    write_entry(store, "shop", entry, is_held=False)
    assert landed_files(store, output.key) == {landed, lookup}
    assert verify(store) == (3, [])
    run(store, "ingest", ([landed, lookup], [output]))
    assert trace(store, output.key).step == "ingest step"


def test_an_unknown_object_is_named(store: Store) -> None:
    with pytest.raises(UnknownObjectError, match="no run on record wrote or read 'lake/nothing'"):
        trace(store, "lake/nothing")


def test_verify_names_what_is_missing_or_changed(store: Store) -> None:
    refs = [store.put(f"lake/{n}", bytes([n])) for n in range(4)]
    run(store, "ingest", ([], refs))
    assert verify(store) == (4, [])
    store.delete(["lake/1"])
    store.put("lake/2", b"tampered")
    count, damages = verify(store)
    assert count == 4
    assert {(damage.ref.key, damage.problem) for damage in damages} == {("lake/1", "missing"), ("lake/2", "changed")}


def test_a_landed_file_that_was_refused_may_be_taken_away(store: Store) -> None:
    landed, kept = store.put("landing/shop/bad.csv", b"?"), store.put("quarantine/shop/0123/bad.csv", b"?")
    entry = Entry(object_id="0123", landed=landed, status="rejected", outputs=(kept,))
    write_entry(store, "shop", entry, is_held=False)
    store.delete([landed.key])
    assert verify(store) == (1, [])
    store.delete([kept.key])
    assert [damage.ref for damage in verify(store)[1]] == [kept]


def test_a_manifest_that_cannot_be_read_is_a_damage_and_hides_no_other_run(store: Store) -> None:
    whole = run(store, "ingest", ([], [store.put("lake/1", b"1")]))
    store.put("runs/train/cut/manifest.json", b'{"flow": "tra')
    assert [manifest.run_id for manifest in read_manifests(store)] == [whole]
    assert [damage.ref.key for damage in verify(store)[1]] == ["runs/train/cut/manifest.json"]


def test_an_object_written_anew_by_a_later_run_is_no_damage(store: Store) -> None:
    run(store, "materialize", ([], [store.put("features/a", b"1")]))
    run(store, "materialize", ([], [store.put("features/a", b"2")]))
    assert verify(store) == (1, [])


def test_a_failed_run_is_on_record_with_its_error(store: Store) -> None:
    def fail_half_way() -> None:
        with recorded(store, "train", "r1", "shop", {"source": "shop"}):
            record(Step(name="half"))
            raise RuntimeError("no clicks")

    with pytest.raises(RuntimeError):
        fail_half_way()
    found = find_manifest(store, "r1")
    assert (found.status, found.error) == ("failed", "RuntimeError: no clicks")
    assert [step.name for step in found.steps] == ["half"]
    assert found.ended_at is not None
    assert found.code_revision
    assert found.lock_sha256


def test_a_running_run_is_on_record(store: Store) -> None:
    with recorded(store, "train", "r2", "shop", {}):
        assert find_manifest(store, "r2").status == "running"
    assert [manifest.status for manifest in read_manifests(store, "train")] == ["completed"]
    with pytest.raises(UnknownRunError, match="0 runs on record begin with 'zz'"):
        find_manifest(store, "zz")


def test_what_a_step_took_away_is_not_missing(store: Store) -> None:
    tiles = [store.put(f"tiles/{n}", bytes([n])) for n in range(2)]
    run(store, "materialize", ([], tiles))
    store.delete(["tiles/0"])
    with recorded(store, "materialize", uuid4().hex, "shop", {}):
        record(Step(name="update_tiles", removed=("tiles/0",)))
    assert verify(store) == (1, [])


def test_the_lake_files_of_a_version_that_was_corrected_are_not_missing(store: Store) -> None:
    for number in range(2):
        landed, rows = store.put("landing/shop/a.csv", bytes([number])), store.put(f"lake/v{number}", bytes([number]))
        with recorded(store, "ingest", uuid4().hex, "shop", {}):
            record(Step(name="ingest", inputs=(landed,), outputs=(rows,), ingest_status="ingested"))
        run(store, "materialize", ([rows], [store.put("tiles/v", bytes([number]))]))
    store.delete(["lake/v0"])
    assert verify(store) == (3, [])
    store.delete(["lake/v1"])
    assert [damage.ref for damage in verify(store)[1]] == [rows]


def test_an_object_that_no_run_wrote_is_of_unknown_producer(store: Store) -> None:
    landed, tile = store.put("landing/shop/a.csv", b"rows"), store.put("tiles/shop/0", b"made by whom?")
    table = store.put("features/shop/0", b"windows")
    run(store, "materialize", ([tile, landed], [table]))
    ends = {end.ref: end.is_landed for end in trace(store, table.key).ends()}
    assert ends == {tile: False, landed: True}
    assert [(damage.ref, damage.problem) for damage in verify(store)[1]] == [(tile, "unknown producer")]
