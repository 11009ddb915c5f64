"""Finds runs that never move, and resubmits each once as the same run."""

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
_LOOK_BACK = timedelta(hours=1)
_LONGEST_STEP_SECONDS = 30.0  # a look that took longer says nothing of what happened meanwhile

_IN_DEPLOYMENT = FlowRunFilterDeploymentId(is_null_=False)
_UNDER_WAY = FlowRunFilterState(
    type=FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING])
)
_ENDED_BADLY = FlowRunFilterState(
    type=FlowRunFilterStateType(any_=[StateType.CRASHED, StateType.FAILED, StateType.CANCELLED])
)
_RUNNING = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING]))

log = logging.getLogger("bridge")


class NotResubmittedError(UserError):
    """The server refused another attempt of a run that crashed."""


@dataclass(frozen=True)
class Limits:
    """How long a run may show no sign of life, in seconds."""

    pending: float = 60.0  # a worker has taken it, and no process has come of it
    running: float = 90.0  # between heartbeats, which a worker's runs send every 30 s, and while they are paused
    crashed: float = 20.0  # when a process dies its worker says so twice: the second time would hit the new attempt


@dataclass(frozen=True)
class _Vigil:
    sign: tuple[UUID | None, UUID | None]  # the state and the last heartbeat
    silent_seconds: float = 0.0


def lives_here(run: FlowRun) -> bool:
    """Whether the run's process is alive on this machine: then its worker will see how it ends, however long it takes.

    Prefect's process worker puts the run's id in the environment of the process it starts.
    """
    try:
        process = psutil.Process(int(run.infrastructure_pid or ""))
        return process.environ().get("PREFECT__FLOW_RUN_ID") == str(run.id)
    except (ValueError, psutil.Error):
        return False


class Reaper:
    """Keeps watch over runs by looking again and again.

    Silence is measured on this process's own monotonic clock, between looks at which the server answered. So neither
    a jump of the clock, nor a restart of the server or of this process, ends a healthy run.
    """

    def __init__(
        self,
        client: SyncPrefectClient,
        store: Store,
        limits: Limits = Limits(),
        is_alive: Callable[[FlowRun], bool] = lives_here,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._store, self._limits = client, store, limits
        self._is_alive, self._clock = is_alive, clock
        self._looked: float | None = None
        self._vigils: dict[UUID, _Vigil] = {}
        self._given_up: set[UUID] = set()
        self._faults = Faults()

    def look(self) -> None:
        """See to every run that has been silent for too long."""
        vigils, self._vigils = self._vigils, {}  # if the server does not answer now, all begin anew
        ended = self._ended_badly()
        self._end_subflows(ended)
        watched = self._under_way() + [run for run in ended if run.deployment_id and run.state_type == "CRASHED"]
        heartbeats = self._heartbeats(watched)
        now = self._clock()
        elapsed = min(now - (self._looked or now), _LONGEST_STEP_SECONDS)
        vigils = {run.id: _kept(vigils.get(run.id), run, heartbeats.get(run.id), elapsed) for run in watched}
        self._looked, self._vigils = now, vigils
        self._given_up &= {run.id for run in ended}
        for run in watched:
            if vigils[run.id].silent_seconds >= self._limit(run):
                with self._faults.outlive(f"run {run.name}"):
                    self._mend(run)

    def _under_way(self) -> list[FlowRun]:
        return self._read(FlowRunFilter(state=_UNDER_WAY, deployment_id=_IN_DEPLOYMENT))

    def _ended_badly(self) -> list[FlowRun]:
        since = FlowRunFilterEndTime(after_=datetime.now(UTC) - _LOOK_BACK)
        return self._read(FlowRunFilter(state=_ENDED_BADLY, end_time=since))

    def _heartbeats(self, runs: Sequence[FlowRun]) -> dict[UUID, UUID]:
        """The last heartbeat of each run that is running and ever sent one."""
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

    def _mend(self, run: FlowRun) -> None:
        if run.id in self._given_up or self._is_alive(run):
            return
        if self._client.read_flow_run(run.id).state_id != run.state_id:
            return  # it moved just now
        if run.state_type == "CANCELLING":
            log.warning("run %s (%s) died while it was cancelled", run.id, run.name)
            self._client.set_flow_run_state(run.id, Cancelled(message="its process died"), force=True)
            return
        if run.state_type != "CRASHED":
            log.warning("run %s (%s) does not move on from %s: crashed", run.id, run.name, run.state_name)
            self._set_crashed(run, f"no sign of life since {run.state_name}")
        if self._had_second_chance(run):
            log.warning("run %s (%s) crashed again and is given up", run.id, run.name)
            self._mark(run)
            self._given_up.add(run.id)
        else:
            again: State[Any] = Scheduled(name=RESUBMITTED, message="its process died")
            said: OrchestrationResult[Any] = self._client.set_flow_run_state(run.id, again)
            if said.status != SetStateStatus.ACCEPT:
                raise NotResubmittedError(f"the server does not take it again: {said.details}")
            log.info("run %s (%s) crashed: resubmitted", run.id, run.name)

    def _had_second_chance(self, run: FlowRun) -> bool:
        """Whether a worker took it after it was resubmitted."""
        names = [state.name for state in self._client.read_flow_run_states(run.id)]
        return RESUBMITTED in names and "Pending" in names[names.index(RESUBMITTED) :]

    def _end_subflows(self, parents: Sequence[FlowRun]) -> None:
        """Subflows die with their parent's process; when the parent runs again it makes new ones."""
        if not parents:
            return
        children = FlowRunFilterParentFlowRunId(any_=[run.id for run in parents])
        for run in self._read(FlowRunFilter(state=_RUNNING, parent_flow_run_id=children)):
            log.info("run %s (%s) died with its parent: crashed", run.id, run.name)
            self._set_crashed(run, "its parent's process died")
            self._mark(run)

    def _set_crashed(self, run: FlowRun, message: str) -> None:
        self._client.set_flow_run_state(run.id, Crashed(message=message), force=True)

    def _mark(self, run: FlowRun) -> None:
        mark_crashed(self._store, self._client.read_flow(run.flow_id).name, str(run.id))

    def _read(self, which: FlowRunFilter) -> list[FlowRun]:
        return self._client.read_flow_runs(flow_run_filter=which)


def _kept(before: _Vigil | None, run: FlowRun, heartbeat: UUID | None, elapsed_seconds: float) -> _Vigil:
    sign = (run.state_id, heartbeat)
    if before is None or before.sign != sign:
        return _Vigil(sign)
    return _Vigil(sign, before.silent_seconds + elapsed_seconds)
