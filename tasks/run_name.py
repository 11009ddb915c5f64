"""The name of a run: its flow, its source, its day, its number on that day, and what started it."""

from datetime import UTC, datetime

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.runtime import flow_run


def run_name() -> str:
    """Such as `train simulated 2026-01-05 #3 (features.materialized)`; a resubmitted run keeps its name.

    Called when the run starts. Until then it has the name that its creator gave it.
    """
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(flow_run.id)
        day = (run.expected_start_time or datetime.now(UTC)).astimezone(UTC).date()
        about = " ".join(filter(None, (flow_run.flow_name, run.parameters.get("source"), str(day))))
        if run.name.startswith(f"{about} #"):
            return run.name
        earlier = client.count_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(like_=f"{about} #")))
        return f"{about} #{earlier + 1} ({_starter(client, run)})"


def _starter(client: SyncPrefectClient, run: FlowRun) -> str:
    """The parent's flow, the schedule, the event, the bridge (which creates runs under keys), or a person."""
    if flow_run.parent_flow_run_id is not None:
        return client.read_flow_run(flow_run.parent_flow_run_id).name.partition(" ")[0]
    if run.created_by is not None and run.created_by.display_value:
        return run.created_by.display_value.partition(" → ")[0]  # automations are called `event → flow`
    return "bridge" if run.idempotency_key else "by hand"
