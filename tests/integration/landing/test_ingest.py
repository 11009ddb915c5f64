"""Ingest on a real object store: what the user sees, and that nothing is lost or counted twice."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import duckdb
import pytest
from lib.contracts import short_names_document

from liftloop.contract.contract import Contract
from liftloop.contract.files import Lookup
from liftloop.lake import known_keys
from liftloop.lake.lake import Lake
from liftloop.lake.landed import Landed, is_reference_or_marker
from liftloop.lake.ledger import blocked, ingested, ingested_recently
from liftloop.landing.ingest import BatchResult, LookupMissingError, ingest_batch, pending_batches, require_lookups
from liftloop.operations.pending_work import features_due_since
from liftloop.storage.duckdb import connect
from liftloop.storage.keys import impressions_prefix, landing_prefix
from liftloop.storage.store import Listed, Store
from tasks.landing import FilesHeldBackError, require_all_ingested

HEADER = "id,at,slot,ad,clicked\n"


@pytest.fixture
def contract() -> Contract:
    """A source of its own for each test, so that they share a bucket and nothing else."""
    document = short_names_document(source=f"shop_{uuid4().hex[:8]}", quarantine_share_limit=0.25)
    return Contract.model_validate(document)


Land = Callable[[str, str | bytes], None]


@pytest.fixture
def land(store: Store, contract: Contract) -> Land:
    def put(name: str, body: str | bytes) -> None:
        store.put(landing_prefix(contract.source) + name, body if isinstance(body, bytes) else body.encode())

    return put


def rows(first: int, count: int, day: str = "2026-01-05", clicked: str = "0") -> str:
    return "".join(f"i{n},{day} 12:00:00,top,a{n % 3},{clicked}\n" for n in range(first, first + count))


def ingest(store: Store, contract: Contract) -> list[BatchResult]:
    lake = Lake(store, contract)
    return [ingest_batch(lake, batch) for batch in pending_batches(lake)]


@dataclass(frozen=True)
class CountingStore(Store):
    """Counts how often each prefix is listed."""

    listed: Counter[str] = field(default_factory=Counter)

    def list(self, prefix: str) -> Iterator[Listed]:
        self.listed[prefix] += 1
        return super().list(prefix)


def lake_ids(store: Store, contract: Contract) -> list[str]:
    with connect(store.settings) as connection:
        glob = store.uri(f"{impressions_prefix(contract.source)}**/*.parquet")
        try:
            found = connection.execute(f"SELECT impression_id FROM read_parquet('{glob}') ORDER BY 1").fetchall()
        except duckdb.IOException:  # no file matches
            return []
    return [row[0] for row in found]


def quarantined(store: Store, contract: Contract, folder: Path) -> list[tuple[list[str], str]]:
    found = []
    for item in store.list(f"quarantine/{contract.source}/"):
        if item.key.endswith("rows.parquet"):
            path = folder / "rows.parquet"
            store.download(item.key, path)
            found += duckdb.execute(f"SELECT reasons, raw FROM '{path}' ORDER BY raw").fetchall()
    return found


def message(results: list[BatchResult]) -> str:
    with pytest.raises(FilesHeldBackError) as caught:
        require_all_ingested(results)
    return str(caught.value)


def test_good_rows_reach_the_lake_and_bad_ones_quarantine(
    store: Store, contract: Contract, land: Land, tmp_path: Path
) -> None:
    land("a.csv", HEADER + rows(0, 8) + "i8,2026-01-05 12:00:00,top,a,7\n" + "i9,2026-01-05\n")
    results = ingest(store, contract)
    require_all_ingested(results)
    assert lake_ids(store, contract) == [f"i{n}" for n in range(8)]
    assert [reasons for reasons, _ in quarantined(store, contract, tmp_path)] == [
        ["missing columns"],
        ["click is not one of 0, 1"],
    ]
    (entry,) = ingested(Lake(store, contract))
    assert (entry.rows_landed, entry.rows_valid, entry.rows_quarantined, entry.rows_duplicate) == (10, 8, 2, 0)
    assert {finding.unexpected_count for finding in results[0].findings if not finding.is_met} == {1}


def test_the_ledger_knows_when_a_file_landed_and_its_newest_event(store: Store, contract: Contract, land: Land) -> None:
    land("a.csv", HEADER + rows(0, 3) + rows(3, 1, day="2026-01-04") + "i9,2026-01-09 12:00:00,top,a,often\n")
    ingest(store, contract)
    land("b.csv", HEADER + rows(0, 3))
    ingest(store, contract)
    landed = {item.key: item.modified for item in store.list(landing_prefix(contract.source))}
    first, again = sorted(ingested_recently(store, contract.source, timedelta(days=14)), key=lambda each: each.landed)
    assert (first.newest_event, again.newest_event) == (datetime(2026, 1, 5, 12, tzinfo=UTC), None)  # all known before
    assert [each.landed_at for each in (first, again)] == list(landed.values())


def test_an_object_is_ingested_once(store: Store, contract: Contract, land: Land) -> None:
    land("a.csv", HEADER + rows(0, 3))
    assert len(ingest(store, contract)) == 1
    assert ingest(store, contract) == []
    assert lake_ids(store, contract) == ["i0", "i1", "i2"]


def test_a_redelivered_file_counts_nothing_twice(store: Store, contract: Contract, land: Land, tmp_path: Path) -> None:
    land("a.csv", HEADER + rows(0, 3))
    ingest(store, contract)
    land("again.csv", HEADER + rows(0, 3))  # the same rows under another name
    land("a.csv", HEADER + rows(0, 4))  # the same name with one more row
    require_all_ingested(ingest(store, contract))
    assert lake_ids(store, contract) == ["i0", "i1", "i2", "i3"]
    entries = ingested(Lake(store, contract))
    assert sorted(entry.rows_landed for entry in entries) == [3, 4]
    assert (sum(entry.rows_valid for entry in entries), sum(entry.rows_duplicate for entry in entries)) == (4, 3)
    reasons = {reason for found, _ in quarantined(store, contract, tmp_path) for reason in found}
    assert reasons == {"duplicate of an impression that is already counted"}


def test_an_impression_that_comes_again_on_another_date_counts_once(
    store: Store, contract: Contract, land: Land
) -> None:
    land("a.csv", HEADER + rows(0, 3))
    ingest(store, contract)
    land("b.csv", HEADER + rows(2, 2, day="2026-01-04"))
    require_all_ingested(ingest(store, contract))
    assert lake_ids(store, contract) == ["i0", "i1", "i2", "i3"]


def test_a_lost_lake_file_is_made_again(store: Store, contract: Contract, land: Land) -> None:
    land("a.csv", HEADER + rows(0, 3) + rows(3, 3, day="2026-01-06"))
    ingest(store, contract)
    before = {item.key: item.etag for item in store.list(impressions_prefix(contract.source))}
    store.delete([sorted(before)[0]])
    assert len(ingest(store, contract)) == 1
    assert {item.key: item.etag for item in store.list(impressions_prefix(contract.source))} == before


def test_a_row_repeated_within_a_file_counts_once(store: Store, contract: Contract, land: Land) -> None:
    land("a.csv", HEADER + rows(0, 3) + rows(1, 1))
    ingest(store, contract)
    assert lake_ids(store, contract) == ["i0", "i1", "i2"]


def test_a_corrected_file_is_no_longer_among_those_held_back(store: Store, contract: Contract, land: Land) -> None:
    land("a.csv", "no header of ours\n")
    ingest(store, contract)
    assert [entry.landed.key for entry in blocked(Lake(store, contract))] == [f"{landing_prefix(contract.source)}a.csv"]
    land("a.csv", HEADER + rows(0, 3))
    ingest(store, contract)
    assert blocked(Lake(store, contract)) == []
    assert lake_ids(store, contract) == ["i0", "i1", "i2"]


def test_one_ingest_lists_the_lake_once(store: Store, contract: Contract, land: Land) -> None:
    land("old.csv", HEADER + rows(200, 3))
    ingest(store, contract)
    for number in range(3):
        land(f"{number}.csv", HEADER + rows(10 * number, 12))
    land("old.csv", HEADER + rows(100, 2))  # replaces what is in the lake
    counting = CountingStore(store.settings)
    lake = Lake(counting, contract)
    while batches := list(pending_batches(lake, batch_objects=2)):  # as the flow does
        for batch in batches:
            ingest_batch(lake, batch)
    assert features_due_since(lake, None) is not None
    require_lookups(lake)
    assert counting.listed[impressions_prefix(contract.source)] == 1
    now = Lake(store, contract)
    assert [(item.key, item.etag) for item in lake.files] == [(item.key, item.etag) for item in now.files]
    assert lake.version == now.version
    assert len(lake_ids(store, contract)) == len({*range(32), 100, 101})


def test_what_other_rules_had_made_of_an_object_leaves_the_lake(store: Store, contract: Contract, land: Land) -> None:
    land("a.csv", HEADER + rows(0, 3))
    (item,) = store.list(landing_prefix(contract.source))
    left = (
        f"{impressions_prefix(contract.source)}date=2020-01-01/{Landed.read(store, contract).object_id(item)}.parquet"
    )
    ingest(store, contract)
    (made,) = [each.key for each in store.list(impressions_prefix(contract.source))]
    store.put(
        left, store.get(made)
    )  # as a run leaves it that is killed before the ledger knows, and then a rule changes
    assert [len(batch) for batch in pending_batches(Lake(store, contract))] == [1]
    ingest(store, contract)
    assert [each.key for each in store.list(impressions_prefix(contract.source))] == [made]
    assert list(pending_batches(Lake(store, contract))) == []


def test_reference_files_and_markers_of_folders_are_no_logs(contract: Contract) -> None:
    lookup = Lookup(path="ads/{day}.csv", format="csv", match={"ad": "id"})
    contract = contract.model_copy(update={"lookups": {"ads": lookup}})
    keys = [f"{landing_prefix(contract.source)}{name}" for name in ("ads/1.csv", "2026/", "a.csv")]
    assert [is_reference_or_marker(contract, key) for key in keys] == [True, True, False]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the file is empty"),
        (HEADER.encode(), "a header and no rows"),
        (b"id;at;slot\n1;2;3\n", "columns ['ad', 'at', 'clicked', 'id', 'slot'] are missing"),
        ((HEADER + rows(0, 3)).encode("utf-16"), "the header is not utf-8: set landing.encoding in the contract"),
        (bytes(range(256)) * 50, "the header is not utf-8"),
    ],
    ids=["empty", "header only", "wrong schema", "wrong encoding", "noise"],
)
def test_a_bad_file_is_kept_whole_and_stops_no_other(
    store: Store, contract: Contract, land: Land, body: bytes, words: str
) -> None:
    land("bad.csv", body)
    land("good.csv", HEADER + rows(0, 3))
    seen = message(ingest(store, contract))
    assert "bad.csv: rejected" in seen
    assert words in seen
    assert lake_ids(store, contract) == ["i0", "i1", "i2"]
    (entry,) = blocked(Lake(store, contract))
    assert store.get(f"quarantine/{contract.source}/{entry.object_id}/bad.csv") == body
    assert ingest(store, contract) == []  # it is not tried again until the file or the rules change


def test_a_corrected_file_replaces_the_rows_of_its_former_version(store: Store, contract: Contract, land: Land) -> None:
    land("a.csv", HEADER + rows(0, 3) + rows(3, 3, day="2026-01-06"))
    land("b.csv", HEADER + rows(6, 2))
    ingest(store, contract)
    land("a.csv", HEADER + rows(0, 2, clicked="1") + rows(8, 1))
    require_all_ingested(ingest(store, contract))
    assert lake_ids(store, contract) == ["i0", "i1", "i6", "i7", "i8"]
    assert sum(entry.rows_valid for entry in ingested(Lake(store, contract))) == 5
    land("a.csv", HEADER + rows(0, 6) + rows(6, 4, clicked="often"))
    assert "held" in message(ingest(store, contract))
    assert lake_ids(store, contract) == ["i0", "i1", "i6", "i7", "i8"]  # until there is a version that is good enough
    assert ingest(store, contract) == []


def test_an_object_at_an_undeclared_path_is_kept_whole(store: Store, contract: Contract, land: Land) -> None:
    land("notes/readme.txt", "hello")
    assert "does not match the contract's landing path" in message(ingest(store, contract))


def test_a_file_with_too_many_bad_rows_is_held_back_whole(store: Store, contract: Contract, land: Land) -> None:
    land("a.csv", HEADER + rows(0, 6) + rows(6, 4, clicked="often"))
    seen = message(ingest(store, contract))
    assert "40.0% of its rows are bad, more than the contract's quarantine_share_limit of 25.0%" in seen
    assert "4 rows: click cannot be read as a whole number" in seen
    assert lake_ids(store, contract) == []


def test_a_held_file_is_tried_again_under_new_rules(store: Store, contract: Contract, land: Land) -> None:
    land("a.csv", HEADER + rows(0, 6) + rows(6, 4, clicked="often"))
    ingest(store, contract)
    lenient = contract.model_copy(update={"quarantine_share_limit": 0.5})
    require_all_ingested(ingest(store, lenient))
    assert lake_ids(store, contract) == [f"i{n}" for n in range(6)]
    assert blocked(Lake(store, lenient)) == []


def test_impressions_that_wait_for_their_reference_file_stop_no_others(
    store: Store, contract: Contract, land: Land
) -> None:
    lookup = {"path": "ref/{day}.csv", "format": "csv", "match": {"ad": "name"}}
    joined = Contract.model_validate(contract.model_dump(by_alias=True) | {"lookups": {"ads": lookup}})
    land("a.csv", HEADER + rows(0, 3))
    land("b.csv", HEADER + rows(3, 3))
    land("ref/b.csv", "name,colour\na0,red\n")
    require_all_ingested(ingest(store, joined))
    assert lake_ids(store, contract) == ["i3", "i4", "i5"]
    with pytest.raises(LookupMissingError, match=r"ref/a\.csv first"):
        require_lookups(Lake(store, joined))
    land("ref/a.csv", "name,colour\na0,red\n")
    require_lookups(Lake(store, joined))
    require_all_ingested(ingest(store, joined))
    assert lake_ids(store, contract) == [f"i{n}" for n in range(6)]


def test_an_interrupted_run_ends_in_the_same_lake(store: Store, contract: Contract, land: Land) -> None:
    land("a.csv", HEADER + rows(0, 3) + rows(3, 3, day="2026-01-06"))
    ingest(store, contract)
    before = {item.key: item.etag for item in store.list(impressions_prefix(contract.source))}
    settled = [item.key for item in store.list(f"ledger/{contract.source}/")]
    store.delete([*settled, sorted(before)[0]])  # as if killed after the second upload, before the ledger
    ingest(store, contract)
    assert {item.key: item.etag for item in store.list(impressions_prefix(contract.source))} == before


def test_a_long_backlog_goes_in_batches_oldest_first(store: Store, contract: Contract, land: Land) -> None:
    for n in range(5):
        land(f"{4 - n}.csv", HEADER + rows(10 * n, 3))
    batches = list(pending_batches(Lake(store, contract), batch_bytes=250))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    modified = [item.modified for batch in batches for item in batch]
    assert modified == sorted(modified)
    assert [len(batch) for batch in pending_batches(Lake(store, contract), batch_objects=3)] == [3, 2]


def test_duplicates_are_found_by_gathered_keys(
    store: Store, contract: Contract, land: Land, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_keys, "FILES_TO_GATHER", 2)
    land("a.csv", HEADER + rows(0, 3) + rows(3, 3, day="2026-01-06"))
    ingest(store, contract)
    land("b.csv", HEADER + rows(5, 2))
    ingest(store, contract)  # reads the two files of the lake and gathers their keys
    assert len(list(store.list(f"lake/{contract.source}/keys/"))) == 1
    land("c.csv", HEADER + rows(0, 8))  # i0 to i5 are gathered, i6 is in a file that is not
    require_all_ingested(ingest(store, contract))
    assert lake_ids(store, contract) == [f"i{n}" for n in range(8)]


def test_keys_of_a_file_that_the_lake_lost_count_no_more(
    store: Store, contract: Contract, land: Land, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_keys, "FILES_TO_GATHER", 1)
    land("a.csv", HEADER + rows(0, 3))
    ingest(store, contract)
    land("b.csv", HEADER + rows(3, 3))
    ingest(store, contract)
    store.delete(item.key for prefix in ("lake/{}/impressions/", "landing/{}/a.csv")
                 for item in store.list(prefix.format(contract.source)))  # fmt: skip
    land("c.csv", HEADER + rows(0, 3))
    ingest(store, contract)
    assert lake_ids(store, contract) == [f"i{n}" for n in range(6)]
