"""The rules of all sources, the choices of a contract, and rules of a source's own."""

import json
from pathlib import Path
from typing import Any

import pytest
from lib.contracts import minimal_contract
from lib.projects import REPOSITORY

from liftloop.contract.suite import SuiteError, load_suite, reading_fingerprint
from liftloop.landing.rules import compile_rules

NO_ROBOTS = {
    "type": "unexpected_rows_expectation",
    "description": "no robots",
    "kwargs": {"unexpected_rows_query": "SELECT * FROM {batch} WHERE device = 'robot'"},
}
CONTEXT = {"device": {"from": "device", "type": "string"}}


@pytest.fixture
def own_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes the file of a source's own rules into a project."""
    (tmp_path / "contracts").mkdir()
    (tmp_path / "expectations").mkdir()
    common = (REPOSITORY / "expectations/impressions.json").read_text(encoding="utf-8")
    (tmp_path / "expectations/impressions.json").write_text(common, encoding="utf-8")
    monkeypatch.setenv("LIFTLOOP_PROJECT", str(tmp_path))

    def write(*expectations: dict[str, Any]) -> None:
        body = json.dumps({"name": "shop", "expectations": expectations})
        (tmp_path / "expectations/shop.json").write_text(body, encoding="utf-8")

    return write


def reasons(**changes: Any) -> list[str]:
    return [rule.reason for rule in compile_rules(load_suite(minimal_contract(**changes)))]


def test_a_contract_chooses_among_the_rules_of_all_sources() -> None:
    strict, lax = reasons(), reasons(outcome={"horizon": "1h", "conversion_requires_click": False})
    assert {*strict} - {*lax} == {"click < conversion"}
    refunds = reasons(amounts={"minimum": -50, "maximum": 200})
    assert "revenue is outside [-50.0, 200.0]" in refunds


def test_a_source_has_rules_of_its_own(own_rules: Any) -> None:
    before = reading_fingerprint(minimal_contract(context=CONTEXT))
    own_rules(NO_ROBOTS)
    assert reasons(context=CONTEXT)[-1] == "breaks the rule: no robots"
    assert reading_fingerprint(minimal_contract(context=CONTEXT)) != before
    assert "breaks the rule: no robots" not in [rule.reason for rule in compile_rules(load_suite())]


def test_a_rule_that_warns_rejects_no_row(own_rules: Any) -> None:
    own_rules(NO_ROBOTS | {"meta": {"on_failure": "warn"}})
    contract = minimal_contract(context=CONTEXT)
    assert "no robots" in [each.get("description") for each in load_suite(contract)["expectations"]]
    assert "breaks the rule: no robots" not in reasons(context=CONTEXT)


DEVICE_AS_NUMBER = NO_ROBOTS | {"kwargs": {"unexpected_rows_query": "SELECT * FROM {batch} WHERE ad_id > 5"}}
SORTED = NO_ROBOTS | {"kwargs": {"unexpected_rows_query": "SELECT * FROM {batch} WHERE click = 1 ORDER BY click"}}
IN_SET = {"type": "expect_column_values_to_be_in_set"}
MEAN = {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "click", "max_value": 0.5}}


@pytest.mark.parametrize(
    ("expectation", "message"),
    [
        (
            NO_ROBOTS | {"meta": {"on_failure": "explode"}},
            "on_failure: 'explode': allowed: reject_rows, hold_file, warn",
        ),
        (MEAN | {"meta": {"on_failure": "reject_rows"}}, "on_failure: 'reject_rows': allowed: hold_file, warn"),
        (MEAN | {"kwargs": {"column": "colour"}}, r"shop.json: .*columns \['colour'\] are not of shop"),
        (NO_ROBOTS, r"columns \['device'\] are not of shop"),
        (MEAN | {"kwargs": {"column": "click", "max_value": {"$PARAMETER": "x"}}}, "'x' is no choice of a contract"),
        ({"type": "x", "kwargs": {}, "meta": "warn"}, "has type, kwargs and perhaps meta"),
        (DEVICE_AS_NUMBER, "'ad_id > 5': .*ompare"),
        (SORTED, "unexpected_rows_expectation: .*not an SQL expression"),
        ({"kwargs": {}}, "has type, kwargs and perhaps meta"),
        (
            IN_SET | {"kwargs": {"column": "ad_id", "value_set": [7, "8"]}},
            r"\[7\] are compared with ad_id.* write texts",
        ),
        (IN_SET | {"kwargs": {"column": "click", "value_set": ["1", 0]}}, r"\['1'\] are compared with click.* numbers"),
    ],
)
def test_a_rule_that_cannot_be_applied_names_its_file(own_rules: Any, expectation: Any, message: str) -> None:
    own_rules(expectation)
    with pytest.raises(SuiteError, match=message):
        load_suite(minimal_contract())
