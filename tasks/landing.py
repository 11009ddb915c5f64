"""From landing to the lake."""

from collections import Counter
from operator import itemgetter

from prefect.runtime import flow_run

from liftloop.contract.contract import load_contract
from liftloop.lake.ledger import Entry, held
from liftloop.landing import ingest as library
from liftloop.landing.ingest import BatchResult, ingest_batch, pending_batches
from liftloop.landing.rules import Finding
from liftloop.operations.pending_work import features_due_since, read_lake, read_materialized
from liftloop.reporting.html import Figures, Section, Table, render_report
from liftloop.storage.runs import Step
from liftloop.storage.store import Listed, open_store
from tasks.events import announce, is_part_of_chain
from tasks.record import publish_page, publish_table
from tasks.step import step

_FILES_SHOWN = 200
_COUNTS = ("rows_landed", "rows_valid", "rows_quarantined", "rows_duplicate")


class FilesHeldBackError(Exception):
    """Some landed files stayed outside the lake; the message is the table of reasons."""


@step
def list_waiting(source: str) -> list[list[Listed]]:
    """What has landed and was not ingested yet, in batches."""
    return list(pending_batches(open_store(), load_contract(source)))


@step
def ingest_objects(source: str, items: list[Listed]) -> BatchResult:
    """One batch into lake and quarantine."""
    return ingest_batch(open_store(), load_contract(source), items)


@step
def report_ingest(source: str, results: list[BatchResult]) -> Step:
    """The data docs of this run: what the rules found, and what became of each file."""
    entries = [entry for result in results for entry in result.entries]
    publish_table(source, "ingest", [_row(entry) for entry in entries], f"Files landed for {source}")
    return publish_page(
        source, "ingest", render_report(f"Ingest of {source}", _sections(results), subtitle=flow_run.id)
    )


@step
def announce_impressions(source: str) -> None:
    """Emit `impressions.validated` while the lake holds what the features do not know."""
    store = open_store()
    since = features_due_since(load_contract(source), read_lake(store, source), read_materialized(store, source))
    if since is not None and not is_part_of_chain():
        announce("impressions.validated", source, {"since": since.isoformat()})


@step
def remind_of_held(source: str) -> None:
    """Say what stays outside the lake, from this run or an earlier one."""
    if outside := held(open_store(), source):
        print(f"{len(outside)} landed files of {source} are not in the lake: `liftloop held {source}` says why")


@step
def refuse_incomplete(source: str) -> None:
    """Fail the run, after all that could be ingested was, if a file waits for another that it is joined with."""
    library.refuse_incomplete(open_store(), load_contract(source))


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
    return [
        Figures({"files": len(entries)} | {_words(name): sum(getattr(e, name) for e in entries) for name in _COUNTS}),
        _reasons(entries),
        _expectations([finding for result in results for finding in result.findings]),
        _files(entries),
    ]


def _reasons(entries: list[Entry]) -> Table:
    counts: Counter[str] = sum((Counter(entry.reasons) for entry in entries), Counter())
    return Table("Why rows are in quarantine", ["reason", "rows"], counts.most_common())


def _expectations(findings: list[Finding]) -> Table:
    rows = [
        (f.expectation, "pass" if f.is_met else "fail", f.unexpected_count, ", ".join(f.examples)) for f in findings
    ]
    return Table(
        "Expectations", ["expectation", "verdict", "unexpected rows", "examples"], sorted(rows, key=itemgetter(1))
    )


def _files(entries: list[Entry]) -> Table:
    """Those that stayed outside first."""
    shown = sorted(entries, key=lambda entry: entry.status == "ingested")[:_FILES_SHOWN]
    rows = [(e.landed.key, e.status, *(getattr(e, name) for name in _COUNTS), e.error) for e in shown]
    note = f"The first {_FILES_SHOWN} of {len(entries)} files." if len(entries) > _FILES_SHOWN else ""
    return Table("Files", ["file", "status", *map(_words, _COUNTS), "error"], rows, note)


def _words(name: str) -> str:
    return name.replace("_", " ")
