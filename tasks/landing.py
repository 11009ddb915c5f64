"""From landing to the lake."""

from prefect import task
from prefect.runtime import flow_run

from liftloop.contract import load_contract
from liftloop.ingest import BatchResult, ingest_batch, pending_batches
from liftloop.ledger import Entry
from liftloop.reports import Figures, Section, Table, render_report
from liftloop.runs import Step
from liftloop.store import Listed, open_store
from tasks.record import publish_page, publish_table

_COUNTS = ("rows_landed", "rows_valid", "rows_quarantined", "rows_duplicate")


class FilesHeldBackError(Exception):
    """Some landed files stayed outside the lake; the message is the table of reasons."""


@task
def list_waiting(source: str) -> list[list[Listed]]:
    """What has landed and was not ingested yet, in batches."""
    return list(pending_batches(open_store(), load_contract(source)))


@task
def ingest_objects(source: str, items: list[Listed]) -> BatchResult:
    """One batch into lake and quarantine."""
    return ingest_batch(open_store(), load_contract(source), items)


@task
def report_ingest(source: str, results: list[BatchResult]) -> Step:
    """The data docs of this run: what the rules found, and what became of each file."""
    entries = [entry for result in results for entry in result.entries]
    publish_table(source, "ingest", [_row(entry) for entry in entries], f"Files landed for {source}")
    return publish_page(
        source, "ingest", render_report(f"Ingest of {source}", _sections(results), subtitle=flow_run.id)
    )


def refuse_held_back(results: list[BatchResult]) -> None:
    """Fail the run, after all that could be ingested was, if a file stayed outside.

    Raises:
        FilesHeldBackError: it did.
    """
    outside = [entry for result in results for entry in result.entries if entry.status != "ingested"]
    if outside:
        lines = [f"{entry.landed.key}: {entry.status}: {entry.error}{_listed(entry.reasons)}" for entry in outside]
        raise FilesHeldBackError("\n".join([f"{len(outside)} landed files are not in the lake:", *lines]))


def _listed(reasons: dict[str, int]) -> str:
    return "".join(f"\n    {count} rows: {reason}" for reason, count in reasons.items())


def _row(entry: Entry) -> dict[str, object]:
    return entry.model_dump(include={"status", *_COUNTS}) | {"file": entry.landed.key, "error": entry.error}


def _sections(results: list[BatchResult]) -> list[Section]:
    entries = [entry for result in results for entry in result.entries]
    totals = {name.replace("_", " "): sum(getattr(entry, name) for entry in entries) for name in _COUNTS}
    rules = [
        (
            finding.expectation,
            "pass" if finding.is_met else "fail",
            finding.unexpected_count,
            ", ".join(finding.examples),
        )
        for result in results
        for finding in result.findings
    ]
    files = [(e.landed.key, e.status, *(getattr(e, name) for name in _COUNTS), e.error) for e in entries]
    return [
        Figures({"files": len(entries), **totals}),
        Table("Expectations", ["expectation", "verdict", "unexpected rows", "examples"], rules),
        Table("Files", ["file", "status", *(name.replace("_", " ") for name in _COUNTS), "error"], files),
        Table(
            "Reasons", ["file", "rows", "reason"], [(e.landed.key, n, r) for e in entries for r, n in e.reasons.items()]
        ),
    ]
