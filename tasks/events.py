"""Events between flows. They are hints and may be lost: the bridge finds the missed work in the store."""

from typing import Any

from prefect.events import emit_event
from prefect.runtime import flow_run


def announce(event: str, source: str, payload: dict[str, Any], **labels: str) -> None:
    """Emit an event about a source: `impressions.validated` is about `liftloop.impressions.<source>`."""
    about = event.partition(".")[0]
    resource = {f"liftloop.{name}": value for name, value in labels.items()}
    resource |= {"prefect.resource.id": f"liftloop.{about}.{source}", "prefect.resource.name": source}
    emit_event(event=event, resource=resource, payload={"source": source} | payload)


def is_part_of_chain() -> bool:
    """Whether a parent flow runs the next stage itself, so that no event is needed."""
    return flow_run.parent_flow_run_id is not None
