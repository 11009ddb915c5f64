"""One run of a flow at a time: for each source, or for all."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists
from prefect.runtime import flow_run

LEASE_SECONDS = 60  # for so long a run that was killed keeps its place; Prefect takes no less


@contextmanager
def exclusive_run(source: str) -> Iterator[None]:
    """Wait until no other run of this flow is at work on the source; where that is `all`, on any."""
    limit = f"{flow_run.flow_name}-{source}"
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.upsert_global_concurrency_limit_by_name(limit, 1)
    with concurrency(limit, lease_duration=LEASE_SECONDS, strict=True):
        yield
