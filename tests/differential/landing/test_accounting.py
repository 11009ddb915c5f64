"""Every record of a landed file is in the lake or in quarantine, each once, and each bad one with its own bytes."""

from typing import Any
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lib.contracts import short_names_document
from lib.mortal_ingest import ingest

from liftloop.contract.contract import Contract
from liftloop.lake.lake import Lake
from liftloop.lake.ledger import ingested
from liftloop.storage.duckdb import connect
from liftloop.storage.keys import landing_prefix, quarantine_prefix
from liftloop.storage.store import Store

GOOD = "{n},2026-01-05 20:00:00,top,ad {n},0"
RECORDS: dict[str, tuple[str, bool]] = {  # kind -> record, and whether it is good
    "plain": (GOOD, True),
    "quoted": ('{n},2026-01-05 20:00:00,"to,p","ad {n}",0', True),
    "over lines": ('{n},2026-01-05 20:00:00,"to\np","ad {n}",0', True),
    "open quote": ('{n},2026-01-05 20:00:00,top,"ad {n},0', False),
    "too few": ("{n},2026-01-05 20:00:00,few {n}", False),
    "too many": ("{n},2026-01-05 20:00:00,top,many {n},0,0,0", False),
    "bad value": ("{n},2026-01-05 20:00:00,top,bad {n},7", False),
    "bad time": ("{n},yesterday,top,late {n},0", False),
}
NOT_UTF8 = b"%d,2026-01-05 20:00:00,top,\xff\xfe %d,0"
FILES = st.lists(
    st.tuples(st.sampled_from([*RECORDS, "not utf-8"]), st.sampled_from([b"\n", b"\r\n", b"\r"])), min_size=1
)


def contract_of(source: str, **layout: Any) -> Contract:
    document = short_names_document(source=source, quarantine_share_limit=1.0)
    return Contract.model_validate(document | {"landing": document["landing"] | layout})


def body_of(kind: str, number: int) -> bytes:
    return NOT_UTF8 % (number, number) if kind == "not utf-8" else RECORDS[kind][0].format(n=number).encode()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILES)
def test_every_record_is_in_the_lake_or_in_quarantine(store: Store, records: list[tuple[str, bytes]]) -> None:
    contract = contract_of(f"s{uuid4().hex[:8]}")
    bodies = [body_of(kind, number) for number, (kind, _) in enumerate(records)]
    landed = b"".join(body + end for body, (_, end) in zip(bodies, records, strict=True))
    store.put(f"{landing_prefix(contract.source)}1.csv", b"id,at,slot,ad,clicked\n" + landed)
    ingest(store, contract)
    good = {str(number) for number, (kind, _) in enumerate(records) if RECORDS.get(kind, ("", False))[1]}
    (entry,) = ingested(Lake(store, contract)) if good else [None]
    with connect(store.settings) as connection:
        uris = Lake(store, contract).uris
        found = {row[0] for row in connection.read_parquet(uris).project("impression_id").fetchall()} if uris else set()
        quarantined = f"read_parquet('{store.uri(quarantine_prefix(contract.source))}*/rows.parquet')"
        raws = connection.execute(f"SELECT raw FROM {quarantined}").fetchall() if len(good) < len(records) else []
    assert found == good
    assert entry is None or entry.rows_landed == len(records)
    assert len(raws) == len(records) - len(good)
    for number, (kind, _) in enumerate(records):
        if str(number) not in good:
            shown = f"\\xff\\xfe {number}" if kind == "not utf-8" else f" {number}"
            assert any(shown in raw for (raw,) in raws)
