"""One line on the terminal: what the demo is waiting for, and how long the stage has taken."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from liftloop.stack.lifecycle import WaitFor


@contextmanager
def live_line(console: Console) -> Iterator[WaitFor]:
    """Yields a function that sets the text. The line disappears with the block, and never shows in a pipe or file."""
    columns = TimeElapsedColumn(), TextColumn("{task.description}", style="dim", markup=False)
    with Progress(
        *columns, console=console, transient=True, refresh_per_second=1, disable=not console.is_terminal
    ) as progress:
        line = progress.add_task("")
        yield lambda words: progress.update(line, description=words)
