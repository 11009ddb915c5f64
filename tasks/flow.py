"""The project's flow decorator: every run is on record, however it ends."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from prefect import Flow, flow
from prefect.runtime import flow_run

from liftloop.settings import load_settings
from liftloop.storage.runs import recorded
from liftloop.storage.store import Store

ALL_SOURCES = "all"

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
            return function(*args, **kwargs)

    decorate = flow(name=function.__name__, log_prints=True)
    return decorate(on_record)
