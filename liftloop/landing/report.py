"""The page on an ingest: row counts, expectations and files."""

from collections import Counter
from collections.abc import Sequence
from operator import itemgetter

from liftloop.lake.ledger import Entry
from liftloop.landing.ingest import BatchResult
from liftloop.landing.rules import Finding
from liftloop.reporting.html import Figures, Section, Table, render_report
from liftloop.reporting.words import counted

FILES_SHOWN = 200
_FAILED = {"reject_rows": "fail", "hold_file": "fail", "warn": "warning"}
COUNTS = ("rows_landed", "rows_valid", "rows_quarantined", "rows_duplicate", "rows_left_out")


def ingest_page(source: str, results: Sequence[BatchResult], run_id: str) -> str:
    """HTML page of an ingest: counts, reasons, expectations, and the status of each file."""
    entries = [entry for result in results for entry in result.entries]
    counts = {_words(name): sum(getattr(entry, name) for entry in entries) for name in COUNTS}
    sections: list[Section] = [
        Figures({"files": len(entries)} | counts),
        _reasons(entries),
        _expectations([finding for result in results for finding in result.findings]),
        _files(entries),
    ]
    return render_report(f"Ingest of {source}", sections, subtitle=run_id)


def file_row(entry: Entry) -> dict[str, object]:
    """One file as a row of a table."""
    return entry.model_dump(include={"status", *COUNTS}) | {"file": entry.landed.key, "error": entry.error}


def not_ingested(entries: Sequence[Entry]) -> str:
    """The files that are not in the lake with their reasons, one per line; empty if there are none."""
    outside = [entry for entry in entries if entry.status != "ingested"]
    lines = [f"{entry.landed.key}: {entry.status}: {entry.error}{_indented(entry.reasons)}" for entry in outside]
    verb = "is" if len(outside) == 1 else "are"
    return "\n".join([f"{counted(len(outside), 'landed file')} {verb} not in the lake:", *lines]) if outside else ""


def _indented(reasons: dict[str, int]) -> str:
    return "".join(f"\n    {count} rows: {reason}" for reason, count in reasons.items())


def _reasons(entries: Sequence[Entry]) -> Table:
    counts: Counter[str] = sum((Counter(entry.reasons) for entry in entries), Counter())
    return Table("Why rows are in quarantine", ["reason", "rows"], counts.most_common())


def _expectations(findings: Sequence[Finding]) -> Table:
    rows = [
        (f.expectation, "pass" if f.is_met else _FAILED[f.on_failure], f.unexpected_count, ", ".join(f.examples))
        for f in findings
    ]
    return Table(
        "Expectations", ["expectation", "verdict", "unexpected rows", "examples"], sorted(rows, key=itemgetter(1))
    )


def _files(entries: Sequence[Entry]) -> Table:
    """Files that are not in the lake come first."""
    shown = sorted(entries, key=lambda entry: entry.status == "ingested")[:FILES_SHOWN]
    rows = [(e.landed.key, e.status, *(getattr(e, name) for name in COUNTS), e.error) for e in shown]
    note = f"The first {FILES_SHOWN} of {len(entries)} files." if len(entries) > FILES_SHOWN else ""
    return Table("Files", ["file", "status", *map(_words, COUNTS), "error"], rows, note)


def _words(name: str) -> str:
    return name.replace("_", " ")
