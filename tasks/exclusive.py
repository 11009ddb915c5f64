"""At most one run of a flow at a time, per source or for all sources."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists
from prefect.runtime import flow_run

LEASE_SECONDS = 60  # how long a killed run keeps its slot; Prefect's minimum


@contextmanager
def exclusive_run(source: str) -> Iterator[None]:
    """Wait until no other run of this flow works on the source, or on any source if that is `all`."""
    limit = f"{flow_run.flow_name}-{source}"
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.upsert_global_concurrency_limit_by_name(limit, 1)
    with concurrency(limit, lease_duration=LEASE_SECONDS, strict=True):
        yield
