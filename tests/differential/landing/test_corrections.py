"""However a source is corrected, and wherever its ingests are killed, its lake ends as one built from nothing."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lib.contracts import short_names_document
from lib.mortal_ingest import MortalStore, ingest, ingest_until_killed, land

from liftloop.contract.contract import Contract
from liftloop.lake.lake import Lake
from liftloop.lake.landed import Landed, object_id_in
from liftloop.storage.duckdb import connect
from liftloop.storage.keys import landing_prefix
from liftloop.storage.store import Store

HEADER = "id,at,slot,ad,clicked\n"
CONTRACTS: dict[str, dict[str, Any]] = {
    "as it was": {},
    "another zone": {"event_timestamp": {"from": "at", "zone": "Asia/Shanghai"}},
    "ids by slot": {"impression_id": {"template": "{slot}-{id}"}},
    "campaigns by reference": {"campaign_id": {"from": "ads.camp"}},
    "without the first file": {},
}
FILES = st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["top", "side"])), min_size=1, max_size=4)
STEPS = st.lists(
    st.one_of(
        FILES.map(lambda rows: ("land", rows)),
        FILES.map(lambda rows: ("correct", rows)),
        st.sampled_from([*CONTRACTS]).map(lambda name: ("contract", name)),
        st.sampled_from(["c1", "c2"]).map(lambda camp: ("reference", camp)),
        st.integers(0, 9).map(lambda writes: ("ingest", writes)),
    ),
    min_size=2,
    max_size=7,
)


# A row that one file lost to another as a duplicate comes back when that one is corrected.
FREED = [("land", [(0, "top")]), ("land", [(0, "top"), (1, "top")]), ("ingest", 99), ("correct", [(2, "top")])]
# So does one that it lost to a file which the contract ignores now.
IGNORED = [*FREED[:3], ("contract", "without the first file"), ("ingest", 1)]


def contract_of(source: str, name: str) -> Contract:
    document = short_names_document(source=source)
    lookups = {"ads": {"path": "ref/ads.txt", "format": "csv", "match": {"ad": "ad"}}}
    ignored = {"ignore": ["0.csv"]} if name == "without the first file" else {}
    changes = {"columns": document["columns"] | CONTRACTS[name], "landing": document["landing"] | ignored}
    return Contract.model_validate(document | changes | {"lookups": lookups})


def csv_of(rows: list[tuple[int, str]]) -> str:
    return HEADER + "".join(f"{number},2026-01-05 20:00:00,{slot},a,0\n" for number, slot in rows)


def rows_by_file(store: Store, contract: Contract) -> dict[str, list[tuple[Any, ...]]]:
    landed = Landed.read(store, contract).by_id
    found = {}
    for item in Lake(store, contract).files:
        with connect(store.settings) as connection:
            rows = connection.read_parquet(store.uri(item.key)).fetchall()
        name = landed[object_id_in(item.key)].key.removeprefix(landing_prefix(contract.source))
        found[f"{item.key.split('/')[-2]} {name}"] = rows
    return found


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(FREED)
@example(IGNORED)
@given(STEPS)
def test_a_corrected_source_is_one_built_from_nothing(store: Store, steps: list[tuple[str, Any]]) -> None:
    store = MortalStore(store.settings)
    source, contract_name, camp, files = f"s{uuid4().hex[:8]}", "as it was", "c0", dict[str, str]()
    reference: Callable[[str], str] = "ad,camp\na,{}\n".format
    land(store, source, "ref/ads.txt", reference(camp))
    for kind, value in steps:
        match kind:
            case "land":
                files[f"{len(files)}.csv"] = csv_of(value)
                land(store, source, *list(files.items())[-1])
            case "correct" if files:
                files.pop("0.csv")
                files["0.csv"] = csv_of(value)  # the last to land now
                land(store, source, "0.csv", files["0.csv"])
            case "contract":
                contract_name = value
            case "reference":
                camp = value
                land(store, source, "ref/ads.txt", reference(camp))
            case "ingest":
                ingest_until_killed(store, contract_of(source, contract_name), value)
    ingest(store, contract_of(source, contract_name))
    other = f"s{uuid4().hex[:8]}"
    land(store, other, "ref/ads.txt", reference(camp))
    for name, text in files.items():
        land(store, other, name, text)
    ingest(store, contract_of(other, contract_name))
    assert rows_by_file(store, contract_of(source, contract_name)) == rows_by_file(
        store, contract_of(other, contract_name)
    )
