"""Console output of the commands."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

console = Console(width=None if sys.stdout.isatty() else 200)  # a pipe has no width to fit


def print_table(columns: list[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table without lines; cells are not interpreted as markup."""
    table = Table(box=None, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console.print(table)
