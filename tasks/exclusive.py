"""At most one run of a flow at a time, per source or for all sources; a run that waits says behind which one."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists
from prefect.runtime import flow_run
from prefect.states import Running

from liftloop.storage.runs import TURN, WAITING, Step, record
from tasks.flow import ALL_SOURCES

LEASE_SECONDS = 60  # how long a killed run keeps its slot; Prefect's minimum
WAITING_STATE = "Waiting"
_SHORTEST_WAIT_SECONDS = 1.0
_AT_WORK = FlowRunFilter(
    state=FlowRunFilterState(
        type=FlowRunFilterStateType(any_=[StateType.RUNNING]), name=FlowRunFilterStateName(not_any_=[WAITING_STATE])
    )
)


@contextmanager
def exclusive_run(source: str) -> Iterator[None]:
    """Wait until no other run of this flow works on the source, or on any source if that is `all`."""
    limit = f"{flow_run.flow_name}-{source}"
    with ExitStack() as slot:
        with get_client(sync_client=True) as client:
            with suppress(ObjectAlreadyExists):
                client.upsert_global_concurrency_limit_by_name(limit, 1)
            _enter(client, slot, limit, source)
        yield


def _enter(client: SyncPrefectClient, slot: ExitStack, limit: str, source: str) -> None:
    """Take the slot. While another run has it, the run's state and one line of its log say which."""
    started, behind = time.monotonic(), None
    while True:
        try:
            slot.enter_context(concurrency(limit, lease_duration=LEASE_SECONDS, strict=True, max_retries=0))
            break
        except ConcurrencySlotAcquisitionError as error:
            seconds = _seconds_until_retry(error)
            if seconds is None:
                raise
        if (found := _find_holder(client, source)) != behind:
            behind = found
            _report_waiting(client, behind)
        time.sleep(seconds)
    if behind is not None:
        waited_seconds = round(time.monotonic() - started)
        print(f"its turn after {waited_seconds} s")
        record(Step(name=TURN, metrics={"waited_seconds": waited_seconds}))
        client.set_flow_run_state(flow_run.id, Running())


def _seconds_until_retry(error: ConcurrencySlotAcquisitionError) -> float | None:
    """How long to wait for the slot; None: the error is not that another run has it."""
    locked = error.__cause__
    if not isinstance(locked, httpx.HTTPStatusError) or locked.response.status_code != httpx.codes.LOCKED:
        return None
    return max(float(locked.response.headers["Retry-After"]), _SHORTEST_WAIT_SECONDS)


def _find_holder(client: SyncPrefectClient, source: str) -> str:
    """The name of the run that works now; the server does not say who holds a slot."""
    runs = client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[flow_run.flow_name])),
        flow_run_filter=_AT_WORK,
        sort=FlowRunSort.START_TIME_ASC,
    )
    others = [run for run in runs if str(run.id) != flow_run.id]
    same = [run.name for run in others if source in (ALL_SOURCES, run.parameters.get("source"))]
    return same[0] if same else "a run that has just ended"


def _report_waiting(client: SyncPrefectClient, behind: str) -> None:
    words = f"waiting for its turn behind {behind}"
    print(words)
    record(Step(name=WAITING, metrics={"behind": behind}))
    client.set_flow_run_state(flow_run.id, Running(name=WAITING_STATE, message=words))
