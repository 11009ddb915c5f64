"""The example contracts read the public logs that they are named after: made-up lines, in the layouts as published."""

import csv
from pathlib import Path
from uuid import uuid4

import pytest
from lib.mortal_ingest import ingest
from lib.projects import REPOSITORY

from liftloop.contract.loading import load_contract
from liftloop.contract.suite import load_suite
from liftloop.lake.lake import Lake
from liftloop.lake.ledger import blocked
from liftloop.landing.rules import compile_rules
from liftloop.storage.duckdb import connect, quoted
from liftloop.storage.keys import landing_prefix
from liftloop.storage.store import Store

CONTRACTS = REPOSITORY / "contracts/examples"
LANDED = Path(__file__).parent / "examples"
SOURCES = sorted(path.stem for path in CONTRACTS.glob("*.yaml"))


@pytest.mark.parametrize("source", SOURCES)
def test_an_example_reads_its_log(store: Store, source: str) -> None:
    contract = load_contract(source, CONTRACTS).model_copy(update={"source": f"s{uuid4().hex[:8]}"})
    for file in sorted(path for path in (LANDED / source).rglob("*") if path.is_file() and path.name != "expected.csv"):
        store.put(f"{landing_prefix(contract.source)}{file.relative_to(LANDED / source)}", file.read_bytes())
    ingest(store, contract)
    assert blocked(Lake(store, contract)) == []
    names, *rows = csv.reader((LANDED / source / "expected.csv").read_text(encoding="utf-8").splitlines())
    with connect(store.settings) as connection:
        columns = ", ".join(f"coalesce({quoted(name)}::VARCHAR, '')" for name in names)
        found = connection.read_parquet(Lake(store, contract).uris).order("impression_id").project(columns).fetchall()
    assert [list(row) for row in found] == rows


@pytest.mark.parametrize("source", SOURCES)
def test_the_rules_of_an_example_compile(source: str) -> None:
    assert len(compile_rules(load_suite(load_contract(source, CONTRACTS)))) > 10
