"""Commands that start and stop the embedded stack."""

import typer

from liftloop import stack
from liftloop.cli.output import console
from liftloop.demo.live import live_line
from liftloop.settings import load_settings

commands = typer.Typer()


@commands.command()
def up() -> None:
    """Start the object store, the Prefect server, a worker and the bridge, and deploy the flows."""
    with live_line(console) as wait_for:
        stack.start(console.print, wait_for)


@commands.command()
def demo() -> None:
    """Run both sources through the whole loop and show the results."""
    from liftloop.demo.run import run_demo  # noqa: PLC0415  (Feast takes seconds to import; other commands need not wait)

    run_demo(console)


@commands.command()
def down() -> None:
    """Stop everything that `up` started. The data stays."""
    stack.down(load_settings())
