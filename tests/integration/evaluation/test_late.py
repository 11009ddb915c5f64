"""What lands after its window was evaluated is evaluated once, with the next window, on a real object store."""

from typing import Any

import pytest
from lib.feature_lake import write_lake
from lib.gate_lake import make_contract, make_rows
from lib.steps import with_step

from liftloop.contract.contract import Contract
from liftloop.evaluation.course import read_evaluations
from liftloop.evaluation.evaluate import evaluate, write_evaluation
from liftloop.evaluation.records import Evaluation
from liftloop.evaluation.report import evaluation_page
from liftloop.storage.store import Store

DAYS = {number: make_rows(number, days=1) for number in range(5)}


@pytest.fixture
def contract(source: str) -> Contract:
    """One whose evaluations begin with a hold-out of two days."""
    return make_contract(source, split={"validation": "1d", "holdout": "2d"}, maturity="1h")


def evaluated(store: Store, contract: Contract) -> Evaluation:
    """The next evaluation; one that dies before it is on record is repeated with the same result."""
    found = evaluate(store, contract)
    assert evaluate(store, contract) == found
    write_evaluation(store, found)
    return found


def landed(store: Store, contract: Contract, name: str, rows: list[dict[str, Any]]) -> list[str]:
    return write_lake(store, contract, rows, name)


def clicked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {"click": 1} for row in rows]


def test_in_time_nothing_is_late_and_each_file_is_recorded_once(store: Store, contract: Contract) -> None:
    keys = landed(store, contract, "a", DAYS[0] + DAYS[1])
    first = evaluated(store, contract)
    assert sorted(first.files) == keys
    more = landed(store, contract, "b", DAYS[2])
    second = evaluated(store, contract)
    assert (second.since, second.late, sorted(second.files)) == (first.until, (), more)
    assert [each.until for each in read_evaluations(store, contract.source)] == [first.until, second.until]


def test_late_impressions_are_evaluated_with_the_next_window(store: Store, contract: Contract) -> None:
    landed(store, contract, "a", DAYS[0] + DAYS[1][:1000])
    evaluated(store, contract)
    landed(store, contract, "b", DAYS[1][1000:])
    second = evaluated(store, contract)
    assert second.since is not None
    landed(store, contract, "late", make_rows(1, days=1, seed=9)[300:500])
    waiting = evaluate(store, contract)
    assert (waiting.health, waiting.late) == ("no_new_data", ())  # until something new has matured
    landed(store, contract, "c", DAYS[2])
    third = evaluated(store, contract)
    (late,) = third.late
    assert (late.kind, late.impressions, late.files) == ("new", 200, 1)
    assert late.kpis["all"].impressions == 200
    assert late.since.date() == DAYS[1][0]["event_timestamp"].date()
    (said,) = [each for each in third.findings if each.startswith("Evaluated late: 200 impressions with")]
    assert "in 1 file that landed after that was evaluated" in said
    assert "KPIs of late impressions" in evaluation_page(contract, third)
    landed(store, contract, "d", DAYS[3])
    assert evaluated(store, contract).late == ()


def test_changed_files_are_evaluated_again(store: Store, contract: Contract) -> None:
    version_a, version_b = "0123456789abcdefAAAAAAAA", "0123456789abcdefBBBBBBBB"
    gone = landed(store, contract, version_a, DAYS[0][:700] + DAYS[1][:700])
    landed(store, contract, "rest", DAYS[0][700:] + DAYS[1][700:])
    evaluated(store, contract)
    landed(store, contract, version_b, DAYS[0][:700] + clicked(DAYS[1][:700]))  # a corrected file has a new name
    store.delete(gone)
    landed(store, contract, "c", DAYS[2])
    second = evaluated(store, contract)
    (again,) = second.late
    assert (again.kind, again.impressions, again.files) == ("changed", 1400, 2)
    assert again.rewards >= 700
    assert {key: etag for key, etag in second.files.items() if key in gone} == dict.fromkeys(gone, "")
    assert any(each.startswith("Evaluated again: 1,400 impressions") for each in second.findings)
    assert not any("left the lake" in each for each in second.findings)
    landed(store, contract, "d", DAYS[3])
    assert evaluated(store, contract).late == ()


def test_files_that_leave_the_lake_or_lie_before_the_record_are_named_once(store: Store, contract: Contract) -> None:
    landed(store, contract, "a", DAYS[1] + DAYS[2] + DAYS[3][:750])
    dropped = landed(store, contract, "dropped", make_rows(2, days=1, seed=9)[:50])
    evaluated(store, contract)
    store.delete(dropped)
    landed(store, contract, "old", DAYS[0])
    landed(store, contract, "b", DAYS[3][750:] + DAYS[4])
    found, step = with_step(evaluate, store, contract)
    assert found.late == ()
    assert "1 file left the lake; evaluations on record still include them." in found.findings
    assert any(each.startswith("1 file of days before ") for each in found.findings)
    assert "files" not in step.metrics
    write_evaluation(store, found)
    landed(store, contract, "c", make_rows(5, days=1))
    assert not any("file" in each for each in evaluated(store, contract).findings)


def test_evaluations_from_before_files_were_recorded_make_nothing_late(store: Store, contract: Contract) -> None:
    landed(store, contract, "a", DAYS[0] + DAYS[1])
    write_evaluation(store, evaluate(store, contract).model_copy(update={"files": {}, "newest_file": None}))
    landed(store, contract, "b", DAYS[2])
    second = evaluated(store, contract)
    assert second.late == ()
    assert len(second.files) >= 2
