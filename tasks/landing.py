"""Ingests landed files into the lake."""

from prefect.runtime import flow_run

from liftloop.contract.loading import load_contract
from liftloop.lake.lake import Lake
from liftloop.lake.ledger import blocked
from liftloop.landing import disowned
from liftloop.landing import ingest as library
from liftloop.landing.ingest import BatchResult, ingest_batch, pending_batches
from liftloop.landing.outcomes import count_waiting
from liftloop.landing.report import file_row, ingest_page, not_ingested
from liftloop.operations.ingested import ingest_words
from liftloop.operations.pending_work import features_due_since, read_materialized
from liftloop.storage.store import Listed, open_store
from tasks.events import announce, is_part_of_chain
from tasks.final_state import FinalState, completed
from tasks.pages import publish_page, publish_table
from tasks.step import step


class FilesHeldBackError(Exception):
    """Some landed files are not in the lake; the message lists the reasons."""


def read_lake(source: str) -> Lake:
    """The lake as this run finds it; the run keeps it up to date with what it writes."""
    return Lake(open_store(), load_contract(source))


def ingest_waiting(lake: Lake) -> list[BatchResult]:
    """Ingest batch after batch until nothing waits, including what lands meanwhile."""
    remove_disowned(lake)
    results: list[BatchResult] = []
    while batches := list_waiting(lake):
        results += [ingest_objects(lake, batch) for batch in batches]
    return results


@step
def remove_disowned(lake: Lake) -> int:
    """Delete the rows of landed files that the contract no longer reads as impressions."""
    return disowned.remove_disowned(lake)


@step
def list_waiting(lake: Lake) -> list[list[Listed]]:
    """The landed objects that are not ingested yet, in batches."""
    return list(pending_batches(lake))


@step
def ingest_objects(lake: Lake, items: list[Listed]) -> BatchResult:
    """Ingest one batch into lake and quarantine."""
    return ingest_batch(lake, items)


@step
def report_ingest(source: str, results: list[BatchResult]) -> None:
    """Publish the data docs of this run, unless nothing was ingested."""
    if not results:
        return
    rows = [file_row(entry) for result in results for entry in result.entries]
    publish_table(source, "ingest", rows, f"Files landed for {source}")
    publish_page(source, "ingest", ingest_page(source, results, flow_run.id))


@step
def announce_impressions(lake: Lake) -> None:
    """Emit `impressions.validated` if the lake has changes that the features lack."""
    source = lake.contract.source
    since = features_due_since(lake, read_materialized(lake.store, source))
    if since is not None and not is_part_of_chain():
        announce("impressions.validated", source, {"since": since.isoformat()})


@step
def count_held(lake: Lake) -> int:
    """The number of files that are held back, by this run or earlier ones."""
    return len(blocked(lake))


@step
def count_waiting_outcomes(lake: Lake, results: list[BatchResult]) -> int:
    """The number of impressions that outcomes of this run name and that are not in the lake."""
    return count_waiting(lake, (entry for result in results for entry in result.entries))


@step
def require_lookups(lake: Lake) -> None:
    """Fail the run, after ingesting everything else, if a file waits for a reference file that it is joined with."""
    library.require_lookups(lake)


def require_all_ingested(results: list[BatchResult]) -> None:
    """Fail the run, after ingesting everything else, if a file was held back or rejected.

    Raises:
        FilesHeldBackError: one was.
    """
    if reasons := not_ingested([entry for result in results for entry in result.entries]):
        raise FilesHeldBackError(reasons)


def ingest_state(source: str, results: list[BatchResult], held: int, outcomes_waiting: int) -> FinalState:
    """What the run has ingested, and what is not in the lake."""
    entries = [entry for result in results for entry in result.entries]
    return completed(ingest_words(source, entries, held, outcomes_waiting))
