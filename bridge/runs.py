"""Lists and starts the runs of our deployments on the Prefect server."""

import logging
from datetime import datetime

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterIdempotencyKey,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from liftloop.errors import UserError

_UNFINISHED = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(not_any_=[*TERMINAL_STATES])))

log = logging.getLogger("bridge")


class NotDeployedError(UserError):
    """One of our deployments is missing on the server."""


class FlowRuns:
    """Runs of the deployment `<flow>/<flow>` for a source."""

    def __init__(self, client: SyncPrefectClient) -> None:
        self._client = client

    def list_sources_under_way(self, flow: str) -> set[str]:
        """The sources with an unfinished run."""
        return {_source(run) for run in self._read(flow, _UNFINISHED)}

    def list_since(self, flow: str, source: str, since: datetime) -> list[FlowRun]:
        """The unfinished runs, and the runs that were due since then, in order."""
        later = FlowRunFilter(expected_start_time=FlowRunFilterExpectedStartTime(after_=since))
        found = {run.id: run for either in (_UNFINISHED, later) for run in self._read(flow, either)}
        return [run for run in found.values() if _source(run) == source]

    def list_by_key(self, flow: str, idempotency_keys: list[str]) -> list[FlowRun]:
        """The runs with one of these idempotency keys."""
        return self._read(flow, FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=idempotency_keys)))

    def start(self, flow: str, source: str, idempotency_key: str, why: str) -> None:
        """Start a run; does nothing if one with this key exists.

        Raises:
            NotDeployedError: the deployment is missing on the server.
        """
        try:
            deployment = self._client.read_deployment_by_name(f"{flow}/{flow}")
        except ObjectNotFound:
            raise NotDeployedError(f"deployment {flow}/{flow} is not on the server: run `liftloop up`") from None
        run = self._client.create_flow_run_from_deployment(
            deployment.id,
            parameters={"source": source},
            idempotency_key=idempotency_key,
            name=f"{flow} {source}",  # until it starts and names itself
        )
        log.info("%s of %s: run %s for %s", flow, source, run.id, why)

    def _read(self, flow: str, filtered: FlowRunFilter) -> list[FlowRun]:
        runs = self._client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])),
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=[flow])),
            flow_run_filter=filtered,
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,  # runs of a schedule, far in the future, come last
        )
        return [run for run in runs if not _is_in_future(run)]


def _is_in_future(run: FlowRun) -> bool:
    return run.auto_scheduled and run.state_name == "Scheduled"


def _source(run: FlowRun) -> str:
    return str(run.parameters.get("source"))
