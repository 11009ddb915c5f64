"""A person is forgotten: by the command, in lake, quarantine and features, and when their files land again."""

import os
import subprocess
from pathlib import Path
from uuid import uuid4

import pytest
from lib.projects import REPOSITORY

from liftloop.contract.contract import Contract
from liftloop.contract.loading import load_contract
from liftloop.features.tiles import update_tiles
from liftloop.features.windows import update_feature_tables
from liftloop.lake.erasure import UnknownKeyError, erase, read_erasures
from liftloop.lake.lake import Lake
from liftloop.lake.landed import Landed
from liftloop.lake.ledger import Entry, pending
from liftloop.landing.ingest import ingest_batch, pending_batches
from liftloop.provenance.lineage import verify
from liftloop.stack.parts import SCRIPTS
from liftloop.storage.duckdb import connect
from liftloop.storage.keys import landing_prefix
from liftloop.storage.runs import read_manifests
from liftloop.storage.store import Store

CONTRACT = """
source: {source}
description: A shop
landing: {{path: "{{day}}.csv", format: csv}}
columns:
  impression_id: {{from: id}}
  event_timestamp: {{from: at}}
  placement_id: {{from: slot}}
  ad_id: {{from: ad}}
  user_id: {{from: user}}
  click: {{from: clicked}}
keys: [user_id]
objective: clicks
outcome: {{horizon: 1h}}
maturity: 30m
quarantine_share_limit: 0.5
split: {{validation: 1d, holdout: 1d}}
"""
USERS = ("u1", "u2", "u12")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    source = f"shop_{uuid4().hex[:8]}"
    (tmp_path / "contracts").mkdir()
    (tmp_path / "contracts" / f"{source}.yaml").write_text(CONTRACT.format(source=source))
    (tmp_path / "expectations").symlink_to(REPOSITORY / "expectations")
    return tmp_path


@pytest.fixture
def contract(project: Path) -> Contract:
    (file,) = (project / "contracts").iterdir()
    return load_contract(file.stem, project / "contracts")


def land(store: Store, contract: Contract, day: str, users: tuple[str, ...] = USERS) -> None:
    """An impression of each user, and a second one that cannot be."""
    rows = (
        f"{day}-{user},{day} 12:00:00,top,a0,{user},0\n{day}-{user}-bad,{day} 12:00:00,top,a0,{user},7\n"
        for user in users
    )
    store.put(f"{landing_prefix(contract.source)}{day}.csv", ("id,at,slot,ad,user,clicked\n" + "".join(rows)).encode())


def ingest(store: Store, contract: Contract) -> list[Entry]:
    results = [ingest_batch(Lake(store, contract), batch) for batch in pending_batches(Lake(store, contract))]
    return [entry for result in results for entry in result.entries]


def users(store: Store, prefix: str, column: str) -> set[str]:
    """Who is named in the Parquet files under a prefix."""
    uris = [store.uri(item.key) for item in store.list(prefix) if item.key.endswith(".parquet")]
    with connect(store.settings) as connection:
        rows = connection.read_parquet(uris, union_by_name=True).project(column).fetchall()
    return {user for (value,) in rows for user in USERS if f'"{user}"' in value or value == user}


def everywhere(store: Store, contract: Contract) -> list[set[str]]:
    source = contract.source
    return [
        users(store, f"lake/{source}/impressions/", "user_id"),
        users(store, f"quarantine/{source}/", "raw"),
        users(store, f"tiles/{source}/", "key"),
        users(store, f"features/{source}/", "user_id"),
    ]


def test_the_command_forgets_a_person(store: Store, contract: Contract, project: Path) -> None:
    for day, seen in (("2026-01-05", USERS), ("2026-01-15", ("u2",)), ("2026-01-25", ("u1",))):
        land(store, contract, day, seen)
    ingest(store, contract)
    build(store, contract)
    assert everywhere(store, contract) == [set(USERS)] * 4
    command = [str(SCRIPTS / "liftloop"), "erase", contract.source, "user_id", "u1"]
    environment = os.environ | store.settings.as_environment()
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [f"{day}.csv" in done.stdout for day in ("2026-01-05", "2026-01-15", "2026-01-25")] == [True, False, True]
    build(store, contract)
    assert everywhere(store, contract) == [{"u2", "u12"}] * 4
    assert pending(Lake(store, contract), Landed.read(store, contract)) == []
    (run,) = (each for each in read_manifests(store, "erase") if each.source == contract.source)
    assert "u1" not in run.parameters.values()
    assert [
        damage for damage in verify(store)[1] if contract.source in damage.ref.key and "lake/" in damage.ref.key
    ] == []


def build(store: Store, contract: Contract) -> None:
    update_tiles(store, contract)
    update_feature_tables(store, contract)


def test_only_what_the_person_touched_is_built_again(store: Store, contract: Contract) -> None:
    land(store, contract, "2026-01-05")
    land(store, contract, "2026-01-15", ("u2",))
    ingest(store, contract)
    update_tiles(store, contract)
    erase(store, contract, "user_id", "u1")
    assert {ref.key.split("date=")[1][:10] for ref in update_tiles(store, contract).outputs} == {
        "2026-01-05",
        "2026-01-06",
    }


def test_landed_again_they_stay_out(store: Store, contract: Contract) -> None:
    land(store, contract, "2026-01-05")
    ingest(store, contract)
    erasure = erase(store, contract, "user_id", "u1")
    assert erase(store, contract, "user_id", "u1") == erasure  # repeated, it still knows the landed files
    land(store, contract, "2026-01-06", ("u1", "u2"))
    land(store, contract, "2026-01-07", ("u1",))
    first, second = ingest(store, contract)
    assert (first.status, first.rows_landed, first.rows_valid, first.rows_erased) == ("ingested", 4, 1, 2)
    assert (second.status, second.rows_landed, second.rows_erased, second.outputs) == ("ingested", 2, 2, ())
    assert users(store, f"lake/{contract.source}/impressions/", "user_id") == {"u2", "u12"}
    assert users(store, f"quarantine/{contract.source}/", "raw") == {"u2", "u12"}
    assert ingest(store, contract) == []
    assert "u1" not in read_erasures(store, contract.source).model_dump_json()


def test_a_column_that_is_not_there_is_named(store: Store, contract: Contract) -> None:
    with pytest.raises(UnknownKeyError, match=r"no text column 'site_id'; it has .*user_id"):
        erase(store, contract, "site_id", "x")
