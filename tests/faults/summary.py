"""A pytest plugin: the table of the matrix at the end of a test run, whichever process ran the cells."""

from itertools import chain
from operator import itemgetter

import pytest
from rich.console import Console
from rich.table import Table

COLUMNS = ("fault", "at", "what was done", "seconds to recover", "runs started again", "verdict")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one row for each cell that was run."""
    reports = chain.from_iterable(terminalreporter.stats.get(verdict, ()) for verdict in ("passed", "failed"))
    rows = [(*dict(report.user_properties)["cell"], report.outcome) for report in reports if _is_cell(report)]
    if not rows:
        return
    table = Table(*COLUMNS, title=f"Crash matrix: {sum(row[-1] == 'passed' for row in rows)} of {len(rows)} recovered")
    for row in sorted(rows, key=itemgetter(0)):
        table.add_row(*row)
    Console(width=140).print(table)


def _is_cell(report: object) -> bool:
    return isinstance(report, pytest.TestReport) and "cell" in dict(report.user_properties)
