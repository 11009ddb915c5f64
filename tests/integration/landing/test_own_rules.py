"""Rules of a source's own: what becomes of rows and files that break them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from lib.contracts import minimal_contract, short_names_document
from lib.projects import REPOSITORY

from liftloop.contract.suite import SuiteError
from liftloop.lake.lake import Lake
from liftloop.landing.ingest import BatchResult, ingest_batch, pending_batches
from liftloop.landing.report import ingest_page
from liftloop.storage.keys import landing_prefix
from liftloop.storage.store import Store

LINES = ["1,2026-03-01 10:00:00,top,a,0,phone", "2,2026-03-01 10:00:01,top,a,0,robot"]
NO_ROBOTS = {
    "type": "unexpected_rows_expectation",
    "description": "no robots",
    "kwargs": {"unexpected_rows_query": "SELECT * FROM {batch} WHERE device = 'robot'"},
}
FEW_CLICKS = {"type": "expect_column_mean_to_be_between", "description": "few", "kwargs": {"column": "click"}}


def ingest(store: Store, folder: Path, expectation: dict[str, Any]) -> BatchResult:
    (folder / "contracts").mkdir()
    shutil.copytree(REPOSITORY / "expectations", folder / "expectations")
    own = json.dumps({"name": "robots", "expectations": [expectation]})
    (folder / "expectations/robots.json").write_text(own, encoding="utf-8")
    document = short_names_document(source="robots")
    context = {"device": {"from": "device", "type": "string"}}
    contract = minimal_contract(**document | {"context": context, "quarantine_share_limit": 0.5})
    body = "\n".join(["id,at,slot,ad,clicked,device", *LINES]).encode()
    store.put(f"{landing_prefix('robots')}1.csv", body)
    lake = Lake(store, contract)
    (batch,) = pending_batches(lake)
    return ingest_batch(lake, batch)


@pytest.mark.parametrize(
    ("expectation", "ended", "said"),
    [
        (NO_ROBOTS, ("ingested", 1, 1), None),
        (NO_ROBOTS | {"meta": {"on_failure": "warn"}}, ("ingested", 2, 0), None),
        (
            NO_ROBOTS | {"meta": {"on_failure": "hold_file"}},
            ("held", 0, 2),
            "breaks the rule: no robots: this rule holds the whole file",
        ),
        (FEW_CLICKS | {"kwargs": {"column": "click", "min_value": 0.5}}, ("held", 0, 2), "it does not meet: few"),
        (
            FEW_CLICKS | {"kwargs": {"column": "click", "min_value": 0.5}, "meta": {"on_failure": "warn"}},
            ("ingested", 2, 0),
            None,
        ),
        (FEW_CLICKS | {"kwargs": {"column": "click", "max_value": 0.5}}, ("ingested", 2, 0), None),
    ],
)
def test_what_breaks_a_rule_is_rejected_held_or_said(
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    expectation: dict[str, Any],
    ended: tuple[str, int, int],
    said: str | None,
) -> None:
    monkeypatch.setenv("LIFTLOOP_PROJECT", str(tmp_path))
    result = ingest(store, tmp_path, expectation)
    (entry,) = result.entries
    assert (entry.status, entry.rows_valid, entry.rows_quarantined) == ended
    assert entry.error == said
    (finding,) = [each for each in result.findings if each.expectation == expectation["description"]]
    is_warning = not finding.is_met and finding.on_failure == "warn"
    assert ("warning" in ingest_page("robots", [result], "r").split("<h2>Expectations")[1]) == is_warning


def test_a_rule_that_does_not_exist_is_said(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFTLOOP_PROJECT", str(tmp_path))
    with pytest.raises(SuiteError, match=r"expect_column_max_to_be_betwen.* no expectation of this name"):
        ingest(store, tmp_path, {"type": "expect_column_max_to_be_betwen", "kwargs": {"column": "click"}})
