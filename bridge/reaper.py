"""Finds runs that make no progress, and resubmits each once as the same run."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psutil
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import OrchestrationResult, SetStateStatus
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterEndTime,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from prefect.states import Cancelled, Crashed, Scheduled

from bridge.faults import Faults
from liftloop.errors import UserError
from liftloop.storage.runs import mark_crashed
from liftloop.storage.store import Store

RESUBMITTED = "Resubmitted"
_HEARTBEAT = "prefect.flow-run.heartbeat"
_EVENTS_PER_QUERY = 50  # the most that the server allows
_LOOKBACK = timedelta(hours=1)
_LONGEST_SWEEP_SECONDS = 30.0  # time beyond it does not count as silence: the run may have moved meanwhile

_IN_DEPLOYMENT = FlowRunFilterDeploymentId(is_null_=False)
_UNDER_WAY = FlowRunFilterState(
    type=FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING])
)
_ENDED_ABNORMALLY = FlowRunFilterState(
    type=FlowRunFilterStateType(any_=[StateType.CRASHED, StateType.FAILED, StateType.CANCELLED])
)
_RUNNING = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING]))

log = logging.getLogger("bridge")


class NotResubmittedError(UserError):
    """The server rejected another attempt of a crashed run."""


@dataclass(frozen=True)
class Limits:
    """How long a run may show no sign of life, in seconds."""

    pending: float = 60.0  # a worker has taken it but started no process
    running: float = 90.0  # between heartbeats, which a worker's runs send every 30 s, also while paused
    crashed: float = 20.0  # a worker reports a dead process twice; the second report would hit the new attempt


@dataclass(frozen=True)
class _Watch:
    sign: tuple[UUID | None, UUID | None]  # the state and the last heartbeat
    silent_seconds: float = 0.0


def is_local_process_alive(run: FlowRun) -> bool:
    """Whether the run's process is alive on this machine. If so, its worker will report how it ends.

    Prefect's process worker puts the run's id in the environment of the process it starts.
    """
    try:
        process = psutil.Process(int(run.infrastructure_pid or ""))
        return process.environ().get("PREFECT__FLOW_RUN_ID") == str(run.id)
    except (ValueError, psutil.Error):
        return False


class Reaper:
    """Watches runs by repeated sweeps.

    Silence is measured on this process's own monotonic clock, between sweeps that the server answered. So neither a
    clock jump, nor a restart of the server or of this process, ends a healthy run.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        store: Store,
        limits: Limits = Limits(),
        is_alive: Callable[[FlowRun], bool] = is_local_process_alive,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._store, self._limits = client, store, limits
        self._is_alive, self._clock = is_alive, clock
        self._last_sweep: float | None = None
        self._watches: dict[UUID, _Watch] = {}
        self._given_up: set[UUID] = set()
        self._faults = Faults()

    def sweep(self) -> None:
        """Resubmit, or give up, every run that has been silent for too long."""
        watches, self._watches = self._watches, {}  # if the server does not answer now, every silence restarts at 0
        ended = self._ended_abnormally()
        self._end_subflows(ended)
        watched = self._under_way() + [run for run in ended if run.deployment_id and run.state_type == "CRASHED"]
        heartbeats = self._heartbeats(watched)
        now = self._clock()
        elapsed = min(now - (self._last_sweep or now), _LONGEST_SWEEP_SECONDS)
        watches = {run.id: _continued(watches.get(run.id), run, heartbeats.get(run.id), elapsed) for run in watched}
        self._last_sweep, self._watches = now, watches
        self._given_up &= {run.id for run in ended}
        for run in watched:
            if watches[run.id].silent_seconds >= self._limit(run):
                with self._faults.survive(f"run {run.name}"):
                    self._resubmit(run)

    def _under_way(self) -> list[FlowRun]:
        return self._read(FlowRunFilter(state=_UNDER_WAY, deployment_id=_IN_DEPLOYMENT))

    def _ended_abnormally(self) -> list[FlowRun]:
        since = FlowRunFilterEndTime(after_=datetime.now(UTC) - _LOOKBACK)
        return self._read(FlowRunFilter(state=_ENDED_ABNORMALLY, end_time=since))

    def _heartbeats(self, runs: Sequence[FlowRun]) -> dict[UUID, UUID]:
        """The last heartbeat of each running run that has sent one."""
        running = {f"prefect.flow-run.{run.id}": run.id for run in runs if run.state_type in ("RUNNING", "PAUSED")}
        names = [*running]
        last: dict[UUID, UUID] = {}
        for first in range(0, len(names), _EVENTS_PER_QUERY):
            of = EventResourceFilter(id=names[first : first + _EVENTS_PER_QUERY], distinct=True)
            wanted = EventFilter(event=EventNameFilter(name=[_HEARTBEAT]), resource=of)
            events = self._client.read_events(wanted, limit=_EVENTS_PER_QUERY).events
            last |= {running[event.resource.id]: event.id for event in events}
        return last

    def _limit(self, run: FlowRun) -> float:
        assert run.state_type is not None
        limits = {"PENDING": self._limits.pending, "CRASHED": self._limits.crashed}
        return limits.get(run.state_type.value, self._limits.running)

    def _resubmit(self, run: FlowRun) -> None:
        if run.id in self._given_up or self._is_alive(run):
            return
        if self._client.read_flow_run(run.id).state_id != run.state_id:
            return  # its state has just changed
        if run.state_type == "CANCELLING":
            log.warning("run %s (%s) died while being cancelled", run.id, run.name)
            self._client.set_flow_run_state(run.id, Cancelled(message="its process died"), force=True)
            return
        if run.state_type != "CRASHED":
            log.warning("run %s (%s) is stuck in %s: marked as crashed", run.id, run.name, run.state_name)
            self._set_crashed(run, f"no sign of life since {run.state_name}")
        if self._was_resubmitted(run):
            log.warning("run %s (%s) crashed again: not resubmitted", run.id, run.name)
            self._mark(run)
            self._given_up.add(run.id)
        else:
            again: State[Any] = Scheduled(name=RESUBMITTED, message="its process died")
            answer: OrchestrationResult[Any] = self._client.set_flow_run_state(run.id, again)
            if answer.status != SetStateStatus.ACCEPT:
                raise NotResubmittedError(f"the server rejects another attempt: {answer.details}")
            log.info("run %s (%s) crashed: resubmitted", run.id, run.name)

    def _was_resubmitted(self, run: FlowRun) -> bool:
        """Whether a worker has taken the run since it was resubmitted."""
        names = [state.name for state in self._client.read_flow_run_states(run.id)]
        return RESUBMITTED in names and "Pending" in names[names.index(RESUBMITTED) :]

    def _end_subflows(self, parents: Sequence[FlowRun]) -> None:
        """Mark subflows as crashed: they die with their parent's process, and its next attempt starts new ones."""
        if not parents:
            return
        children = FlowRunFilterParentFlowRunId(any_=[run.id for run in parents])
        for run in self._read(FlowRunFilter(state=_RUNNING, parent_flow_run_id=children)):
            log.info("run %s (%s) died with its parent: marked as crashed", run.id, run.name)
            self._set_crashed(run, "its parent's process died")
            self._mark(run)

    def _set_crashed(self, run: FlowRun, message: str) -> None:
        self._client.set_flow_run_state(run.id, Crashed(message=message), force=True)

    def _mark(self, run: FlowRun) -> None:
        mark_crashed(self._store, self._client.read_flow(run.flow_id).name, str(run.id))

    def _read(self, which: FlowRunFilter) -> list[FlowRun]:
        return self._client.read_flow_runs(flow_run_filter=which)


def _continued(before: _Watch | None, run: FlowRun, heartbeat: UUID | None, elapsed_seconds: float) -> _Watch:
    sign = (run.state_id, heartbeat)
    if before is None or before.sign != sign:
        return _Watch(sign)
    return _Watch(sign, before.silent_seconds + elapsed_seconds)
