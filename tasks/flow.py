"""The project's flow decorator: every run is on record, however it ends."""

import json
from collections.abc import Callable, Mapping
from functools import wraps
from typing import ParamSpec, TypeVar

from prefect import Flow, flow
from prefect.runtime import flow_run

from liftloop.errors import UserError
from liftloop.settings import load_settings
from liftloop.storage.runs import recorded
from liftloop.storage.store import Store
from tasks.run_name import run_name

ALL_SOURCES = "all"


class MissingParameterError(UserError):
    """The event that started the run lacks a field."""


P = ParamSpec("P")
R = TypeVar("R")


def recorded_flow(function: Callable[P, R]) -> Flow[P, R]:
    """A Prefect flow with the function's name, whose steps are recorded in a manifest: see `liftloop.storage.runs`."""

    @wraps(function)
    def on_record(*args: P.args, **kwargs: P.kwargs) -> R:
        parents = (flow_run.parent_flow_run_id,) if flow_run.parent_flow_run_id else ()
        source = flow_run.parameters.get("source", ALL_SOURCES)
        patient = Store(load_settings(), attempts=10)  # more attempts, because only tasks are retried by Prefect
        with recorded(patient, flow_run.flow_name, flow_run.id, source, flow_run.parameters, parents):
            require_parameters(flow_run.flow_name, flow_run.parameters)
            return function(*args, **kwargs)

    decorate = flow(name=function.__name__, flow_run_name=run_name, log_prints=True)
    return decorate(on_record)


def require_parameters(flow_name: str, parameters: Mapping[str, object]) -> None:
    """Require that no parameter is an empty text, as deployments.yaml makes it of a field that an event lacks."""
    if empty := [name for name, value in parameters.items() if value == ""]:
        raise MissingParameterError(
            f"{' and '.join(empty)} empty: an event that starts {flow_name} must have {' and '.join(empty)} in its"
            f" payload, such as {json.dumps(dict.fromkeys(empty, '…'), ensure_ascii=False)}. Emit it again"
        )
