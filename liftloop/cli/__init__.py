"""The `liftloop` command."""

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console

from liftloop.cli import data, models, records, stack, status
from liftloop.errors import UserError

commands = typer.Typer(no_args_is_help=True, help="The loop from landed ad logs to measured lift.")
for group in (stack, status, data, models, records):
    commands.add_typer(group.commands)


def app() -> None:
    """Run the command; an error that the user can fix prints one line and exits with code 1."""
    try:
        commands()
    except UserError as error:
        message = str(error)
    except (BotoCoreError, ClientError) as error:
        message = f"the object store does not answer as expected (`liftloop up` starts it): {error}"
    else:
        return
    Console(stderr=True).print(message, style="red", highlight=False, markup=False, soft_wrap=True)
    raise SystemExit(1)
