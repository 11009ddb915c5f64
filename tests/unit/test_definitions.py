"""Everything that is declared loads as the worker, Feast and ingest would load it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.flows import Flow, load_flow_from_entrypoint

from liftloop.contract import declared_sources, load_contract
from liftloop.features.lookup import feature_columns, feature_service_name
from liftloop.landing.validation import compile_rules, load_suite
from liftloop.stack.parts import WORK_POOL

DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load(Path("deployments.yaml").read_text())["deployments"]
NAMES = [deployment["name"] for deployment in DEPLOYMENTS]


def test_every_flow_is_deployed_once() -> None:
    flows = {path.stem for path in Path("flows").glob("*.py")} - {"__init__"}
    assert sorted(NAMES) == sorted(flows)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=NAMES)
def test_a_deployment_loads_as_the_worker_would(deployment: dict[str, Any]) -> None:
    flow: Flow[Any, Any] = load_flow_from_entrypoint(deployment["entrypoint"])
    assert flow.name == deployment["name"]
    assert deployment["work_pool"]["name"] == WORK_POOL


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=NAMES)
def test_schedules_name_declared_sources(deployment: dict[str, Any]) -> None:
    flow: Flow[Any, Any] = load_flow_from_entrypoint(deployment["entrypoint"])
    for schedule in deployment.get("schedules", []):
        assert flow.validate_parameters(schedule["parameters"])["source"] in declared_sources()


@pytest.mark.parametrize("source", declared_sources())
def test_every_source_has_features_and_a_service(source: str) -> None:
    contract = load_contract(source)
    assert feature_service_name(contract).startswith(f"{source}_")
    columns = feature_columns(contract)
    assert len(set(columns)) == len(columns) >= 10 * len(contract.keys)


def test_the_suite_compiles() -> None:
    reasons = [rule.reason for rule in compile_rules(load_suite())]
    assert len(set(reasons)) == len(reasons) > 10
