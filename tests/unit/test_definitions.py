"""Everything that is declared loads as the worker, Feast and ingest would load it."""

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import yaml
from prefect.events import DeploymentEventTrigger
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.server.events.actions import RunDeployment
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.hydration import HydrationContext, hydrate
from prefect.utilities.schema_tools.validation import validate

from liftloop.contract.loading import declared_sources, load_contract, load_contracts
from liftloop.contract.suite import load_suite
from liftloop.features.definitions import feature_columns, feature_service_name
from liftloop.landing.rules import compile_rules
from liftloop.settings import Role
from liftloop.stack.parts import WORK_POOL
from liftloop.stack.schedules import FLOWS, declared_schedules

DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load(Path("deployments.yaml").read_text())["deployments"]
FROM_OUTSIDE = {"landing.object-created", "model.rollback-requested"}  # emitted by people and programs of the users
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
def test_a_deployment_declares_no_schedules_because_deploying_would_reset_edits(deployment: dict[str, Any]) -> None:
    assert "schedules" not in deployment


def test_schedules_fit_the_flow_and_differ_by_slug() -> None:
    schedules = declared_schedules(load_contracts()[0])
    assert {schedule.flow for schedule in schedules} == set(FLOWS)
    assert len({(schedule.flow, schedule.slug) for schedule in schedules}) == len(schedules)
    for schedule in schedules:
        flow: Flow[Any, Any] = load_flow_from_entrypoint(f"flows/{schedule.flow}.py:{schedule.flow}")
        flow.validate_parameters(schedule.parameters)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=NAMES)
def test_triggers_fit_the_flow_and_the_events_that_are_emitted(deployment: dict[str, Any]) -> None:
    flow: Flow[Any, Any] = load_flow_from_entrypoint(deployment["entrypoint"])
    code = "".join(path.read_text() for path in Path("tasks").glob("*.py"))
    for each in deployment.get("triggers", []):
        trigger = DeploymentEventTrigger.model_validate(each)
        flow.validate_parameters(dict.fromkeys(each["parameters"], "text"))
        for event in trigger.expect - FROM_OUTSIDE:
            assert f'"{event}"' in code or f'f"{event.split(".")[0]}.' in code


PAYLOADS: list[dict[str, Any]] = [
    {"source": "shop", "reason": "clicks fell", "to": "v1"},
    {"source": "shop", "reason": "clicks fell", "to": None},
    {"source": None},
    {"source": 7, "reason": ["a"], "to": 7},
    {},
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=str)
@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=NAMES)
def test_any_event_starts_a_run_whatever_it_lacks(deployment: dict[str, Any], payload: dict[str, Any]) -> None:
    """What the server does with a trigger's parameters: it creates no run if they do not render, or do not fit."""
    flow: Flow[Any, Any] = load_flow_from_entrypoint(deployment["entrypoint"])
    for each in deployment.get("triggers", []):
        parameters = deepcopy(each["parameters"])
        RunDeployment._upgrade_v1_templates(parameters)
        context = {"event": SimpleNamespace(payload=payload)}
        rendered = hydrate(parameters, HydrationContext(render_jinja=True, raise_on_error=True, jinja_context=context))
        validate(rendered, parameter_schema(flow).model_dump_for_openapi(), raise_on_error=True)
        assert rendered["source"] == str(payload.get("source") or "")
        if "to" in rendered:
            assert rendered["to"] == (str(payload["to"]) if payload.get("to") else None)


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=NAMES)
def test_a_deployment_has_the_keys_of_one_role(deployment: dict[str, Any]) -> None:
    environment = deployment["work_pool"].get("job_variables", {}).get("env", {})
    assert environment.get("LIFTLOOP_ROLE", "operator") in get_args(Role)
    assert ("LIFTLOOP_ROLE" in environment) == (deployment["name"] != "lifecycle")  # which does the work of several


@pytest.mark.parametrize("source", declared_sources())
def test_every_source_has_features_and_a_service(source: str) -> None:
    contract = load_contract(source)
    assert feature_service_name(contract).startswith(f"{source}_")
    columns = feature_columns(contract)
    assert len(set(columns)) == len(columns) >= 10 * len(contract.keys)


def test_the_suite_compiles() -> None:
    reasons = [rule.reason for rule in compile_rules(load_suite())]
    assert len(set(reasons)) == len(reasons) > 10
