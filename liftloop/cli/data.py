"""Commands on landed data: land files, list files held back, erase a person, fetch and simulate logs."""

from functools import partial
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer

from liftloop.cli.output import console, print_table
from liftloop.contract.loading import load_contract
from liftloop.datasets import open_bandit
from liftloop.lake.erasure import erase as erase_value
from liftloop.lake.lake import Lake
from liftloop.lake.landed import Landed
from liftloop.lake.ledger import blocked, reopen
from liftloop.reporting.html import copy_page
from liftloop.reporting.words import counted
from liftloop.settings import load_settings
from liftloop.storage.keys import off_policy_key
from liftloop.storage.runs import recorded
from liftloop.storage.store import land, open_store

commands = typer.Typer()
fetch = typer.Typer(no_args_is_help=True, help="Obtain public logs and land them.")
commands.add_typer(fetch, name="fetch")


@commands.command("land")
def land_folder(
    source: Annotated[str, typer.Argument(help="A source with a contract.")],
    folder: Annotated[
        Path, typer.Argument(help="Every file below it lands under its path within it.", exists=True, file_okay=False)
    ],
) -> None:
    """Land the files of a folder: FOLDER/a/b.csv becomes landing/SOURCE/a/b.csv."""
    load_contract(source)
    store = open_store()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        land(store, source, path.relative_to(folder).as_posix(), path.read_bytes())
    console.print(f"landed {counted(len(files), 'file')} of {source}")


@commands.command("held")
def list_held(source: Annotated[str, typer.Argument(help="A source with a contract.")]) -> None:
    """List the landed files that are not in the lake, with the reason."""
    lake = Lake(open_store(), load_contract(source))
    rows = [(e.landed.key, e.status, e.error, "\n".join(e.reasons)) for e in blocked(lake)]
    print_table(["file", "status", "error", "reasons"], rows)


@commands.command("reingest")
def reingest(source: Annotated[str, typer.Argument(help="A source with a contract.")]) -> None:
    """Read every landed file of a source again, in the background of new ones; what changes nothing is not needed.

    A change of contract, rules or reference files does this by itself.
    """
    store = open_store()
    landed = Landed.read(store, load_contract(source))
    reopen(store, source, {*landed.by_id})
    console.print(
        f"{len(landed.by_id)} files of {source} are read again by the next `ingest`; `liftloop status` counts"
    )


@commands.command()
def erase(
    source: Annotated[str, typer.Argument(help="A source with a contract.")],
    key: Annotated[str, typer.Argument(help="A column, such as user_id.")],
    value: Annotated[str, typer.Argument(help="The value whose rows to erase.")],
) -> None:
    """Remove a person's rows from lake and quarantine, and keep them out when their files land again."""
    contract, store = load_contract(source), open_store()
    with recorded(store, "erase", str(uuid4()), source, {"key": key}) as run:
        erasure = erase_value(store, contract, key, value)
    console.print(
        f"rewrote {counted(len(run.outputs), 'file')} of {source}; the next `materialize` recomputes their features"
    )
    print_table(["landed files that hold the rows; they belong to the publisher"], [(key,) for key in erasure.landed])


@fetch.command("open-bandit")
def fetch_open_bandit() -> None:
    """Land the Open Bandit sample, 60,000 real impressions with propensities, and evaluate its policy off-policy."""
    from liftloop.datasets.open_bandit_value import write_off_policy_page  # noqa: PLC0415  (as for `simulate`)

    store, sdist = open_store(), open_bandit.obtain(load_settings().home / "cache")
    keys = open_bandit.land_sample(sdist, partial(land, store, "open_bandit"))
    console.print(f"landed {counted(len(keys), 'file')} of open_bandit")
    write_off_policy_page(store, sdist)
    console.print(f"off-policy page: {copy_page(store, off_policy_key('open_bandit'))}", soft_wrap=True)


@commands.command()
def simulate(
    impressions: Annotated[int, typer.Option(help="How many impressions, over all days.", min=1)] = 500_000,
    days: Annotated[int, typer.Option(help="How many days.", min=1, max=3650)] = 16,
    seed: Annotated[int, typer.Option(help="The same seed lands the same bytes.")] = 7,
) -> None:
    """Land the logs of a simulated publisher; the true click probabilities stay outside the bucket."""
    from liftloop.datasets import simulated  # noqa: PLC0415  (pandas takes most of the start; other commands need not wait)

    settings = simulated.SimulationSettings(impressions=impressions, days=days, seed=seed)
    summary = simulated.simulate(
        settings, partial(land, open_store(), "simulated"), load_settings().home / "truth" / "simulated"
    )
    console.print(f"landed {counted(summary.rows, 'row')} in {counted(summary.files, 'file')} of simulated")
