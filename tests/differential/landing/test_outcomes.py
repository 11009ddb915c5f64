"""Outcomes in files of their own, against a plain join: in any order, late, repeated, corrected, and after kills."""

from collections.abc import Iterable
from itertools import chain
from typing import Any
from uuid import uuid4

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lib.contracts import short_names_document
from lib.mortal_ingest import MortalStore, ingest, ingest_until_killed, land

from liftloop.contract.contract import Contract
from liftloop.lake.lake import Lake
from liftloop.lake.ledger import blocked, ingested
from liftloop.landing.outcomes import count_waiting
from liftloop.storage.duckdb import connect
from liftloop.storage.store import Store

SHOWN = "2026-01-05 20:00:0"
CLICKED = ["2026-01-05 20:01:00", "2026-01-06 09:00:00"]
NUMBERS = st.integers(0, 4)
IMPRESSIONS = st.lists(NUMBERS, min_size=1, max_size=3, unique=True)
CLICKS = st.lists(st.tuples(NUMBERS, st.sampled_from(CLICKED)), min_size=1, max_size=3)
SALES = st.lists(
    st.tuples(NUMBERS, st.sampled_from(["s1", "s2"]), st.sampled_from(["1.5", "2"])),
    max_size=3,
    unique_by=lambda sale: sale[:2],
)
STEPS = st.lists(
    st.one_of(
        IMPRESSIONS.map(lambda rows: ("impressions", rows)),
        CLICKS.map(lambda rows: ("clicks", rows)),
        SALES.map(lambda rows: ("sales", rows)),
        st.tuples(st.sampled_from(["clicks", "sales"]), st.just("again")),
        CLICKS.map(lambda rows: ("corrected clicks", rows)),
        st.integers(0, 9).map(lambda writes: ("ingest", writes)),
    ),
    min_size=2,
    max_size=8,
)


def contract_of(source: str) -> Contract:
    document = short_names_document(source=source)
    columns = {name: column for name, column in document["columns"].items() if name != "click"}
    moment = {"outcome_timestamp": {"from": "at"}}
    outcome_files = {
        "clicks": {
            "path": "clicks/{n}.csv",
            "format": "csv",
            "columns": {"impression_id": {"from": "id"}, "click": {"constant": 1}, **moment},
        },
        "sales": {
            "path": "sales/{n}.csv",
            "format": "csv",
            "columns": {"impression_id": {"from": "id"}, "conversion": {"constant": 1}, "revenue": {"from": "worth"}},
            "event_id": {"from": "sale"},
        },
    }
    changes = {"columns": columns, "outcome_files": outcome_files, "quarantine_share_limit": 1.0}
    changes |= {"outcome": {"horizon": "3d", "delay": "2h"}, "maturity": "3d"}
    return Contract.model_validate(document | changes)


def csv(header: str, rows: Iterable[Any]) -> str:
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)])


def expected(shown: list[int], clicks: list[Any], sales: list[Any]) -> dict[str, tuple[int, int, float, str]]:
    """Of each impression that has no sale without a click: click, conversion, revenue, day and hour of the outcome."""
    found = {}
    for number in {*shown}:
        times = [time for clicked, time in clicks if clicked == number]
        sold = {sale: worth for bought, sale, worth in sales if bought == number}  # the last version of each
        known = max(times, default=f"{SHOWN}0" if not sold else "2026-01-05 22")
        day = known[8:13] if times or sold else "08 20"
        if times or not sold:
            found[str(number)] = (int(bool(times)), int(bool(sold)), sum(float(worth) for worth in sold.values()), day)
    return found


def found(store: Store, contract: Contract) -> dict[str, tuple[Any, ...]]:
    uris = Lake(store, contract).uris
    if not uris:
        return {}
    with connect(store.settings) as connection:
        rows = connection.read_parquet(uris).project(
            "impression_id, click, conversion, revenue, strftime(outcome_timestamp, '%d %H')"
        )
        return {number: tuple(rest) for number, *rest in rows.fetchall()}


BEFORE_ITS_CLICK = [("impressions", [1]), ("sales", [(1, "s1", "2")]), ("ingest", 99), ("clicks", [(1, CLICKED[0])])]
WITH_AND_WITHOUT_EVENT_ID = [("clicks", [(0, CLICKED[0])]), ("sales", [(0, "s1", "2")]), ("impressions", [0])]


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([("clicks", [(0, CLICKED[0])]), ("ingest", 99), ("impressions", [0, 1]), ("ingest", 99), ("clicks", "again")])
@example(BEFORE_ITS_CLICK)
@example(WITH_AND_WITHOUT_EVENT_ID)
@given(STEPS)
def test_impressions_have_the_outcomes_that_landed(store: Store, steps: list[tuple[str, Any]]) -> None:
    store = MortalStore(store.settings)
    contract = contract_of(f"s{uuid4().hex[:8]}")
    shown, landed = list[int](), {"clicks": list[list[Any]](), "sales": list[list[Any]]()}
    headers = {"clicks": "id,at", "sales": "id,sale,worth"}
    for number, (kind, value) in enumerate(steps):
        match kind, value:
            case "ingest", writes:
                ingest_until_killed(store, contract, writes)
            case "impressions", rows:
                shown += rows
                lines = [(each, f"{SHOWN}0", "top", "a") for each in rows]
                land(store, contract.source, f"{number}.csv", csv("id,at,slot,ad", lines))
            case "corrected clicks", rows if landed["clicks"]:
                landed["clicks"][0] = rows
                land(store, contract.source, "clicks/0.csv", csv(headers["clicks"], rows))
            case (("clicks" | "sales"), rows) if rows != "again" or landed[kind]:
                rows = landed[kind][-1] if rows == "again" else rows
                name = f"{kind}/{len(landed[kind])}.csv"
                landed[kind].append(rows)
                land(store, contract.source, name, csv(headers[kind], rows))
    ingest(store, contract)
    clicks, sales = ([*chain.from_iterable(landed[kind])] for kind in ("clicks", "sales"))
    assert found(store, contract) == expected(shown, clicks, sales)


def test_an_impression_names_the_files_of_its_outcomes(store: Store) -> None:
    store = MortalStore(store.settings)
    contract = contract_of(f"s{uuid4().hex[:8]}")
    land(store, contract.source, "1.csv", csv("id,at,slot,ad", [(1, f"{SHOWN}0", "top", "a")]))
    land(store, contract.source, "clicks/1.csv", csv("id,at", [(1, CLICKED[0])]))
    land(store, contract.source, "clicks/2.csv", csv("id,at", [(7, CLICKED[0])]))
    ingest(store, contract)
    (impressions,) = [
        each for each in ingested(Lake(store, contract)) if each.landed.key.endswith(f"{contract.source}/1.csv")
    ]
    assert len(impressions.outcomes) == 1


def test_outcomes_without_impression_are_counted(store: Store) -> None:
    store = MortalStore(store.settings)
    contract = contract_of(f"s{uuid4().hex[:8]}")
    land(store, contract.source, "clicks/1.csv", csv("id,at", [(number, CLICKED[0]) for number in (0, 1, 2)]))
    counts = []
    for shown in ([], [0], [1, 5]):
        if shown:
            rows = [(number, f"{SHOWN}0", "top", "a") for number in shown]
            land(store, contract.source, f"{shown[0]}.csv", csv("id,at,slot,ad", rows))
        ingest(store, contract)
        lake = Lake(store, contract)
        counts.append(count_waiting(lake, ingested(lake)))
    assert counts == [3, 2, 1]


def test_outcomes_that_the_contract_no_longer_names_are_gone(store: Store) -> None:
    store = MortalStore(store.settings)
    contract = contract_of(f"s{uuid4().hex[:8]}")
    land(store, contract.source, "1.csv", csv("id,at,slot,ad", [(1, f"{SHOWN}0", "top", "a")]))
    land(store, contract.source, "clicks/1.csv", csv("id,at", [(1, CLICKED[0])]))
    land(store, contract.source, "sales/1.csv", csv("id,sale,worth", [(1, "s1", "2")]))
    ingest(store, contract)
    assert found(store, contract)["1"] == (1, 1, 2.0, "05 20")
    clicks = {"clicks": contract.outcome_files["clicks"]}
    ingest(store, without := contract.model_copy(update={"outcome_files": clicks}))
    assert found(store, without)["1"][:3] == (1, None, None)


def test_the_last_version_of_an_event_counts(store: Store) -> None:
    store = MortalStore(store.settings)
    contract = contract_of(f"s{uuid4().hex[:8]}")
    land(store, contract.source, "1.csv", csv("id,at,slot,ad", [(1, f"{SHOWN}0", "top", "a")]))
    land(store, contract.source, "clicks/1.csv", csv("id,at", [(1, CLICKED[0])]))
    land(store, contract.source, "sales/2.csv", csv("id,sale,worth", [(1, "s1", "2"), (1, "s2", "5")]))
    land(store, contract.source, "sales/1.csv", csv("id,sale,worth", [(1, "s1", "3")]))
    ingest(store, contract)
    assert found(store, contract)["1"] == (1, 1, 8.0, "05 20")


def test_a_day_without_outcomes_is_no_fault(store: Store) -> None:
    store = MortalStore(store.settings)
    contract = contract_of(f"s{uuid4().hex[:8]}")
    land(store, contract.source, "clicks/1.csv", "id,at\n")
    ingest(store, contract)
    assert blocked(Lake(store, contract)) == []
