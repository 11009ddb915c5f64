"""The `liftloop` command."""

import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer
from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from liftloop import stack
from liftloop.contract import Contract, ContractError, declared_sources, load_contract
from liftloop.erasure import erase as erase_value
from liftloop.errors import UserError
from liftloop.health import disk_use, in_words, last_successes, source_health
from liftloop.landing import open_bandit
from liftloop.landing.ledger import held
from liftloop.lineage import Origin, trace
from liftloop.lineage import verify as verify_objects
from liftloop.runs import UnknownRunError, find_manifest, read_manifests, recorded
from liftloop.settings import Settings, load_settings
from liftloop.stack.parts import OBJECT_STORE
from liftloop.store import Store, concurrently, land, open_store
from liftloop.training.moves import move_step
from liftloop.training.rollback import rollback as restore

commands = typer.Typer(no_args_is_help=True, help="The loop from landed ad logs to measured lift.")
fetch = typer.Typer(no_args_is_help=True, help="Obtain public logs and land them.")
commands.add_typer(fetch, name="fetch")
console = Console(width=None if sys.stdout.isatty() else 200)  # a pipe has no width to fit


def app() -> None:
    """Run the command; what a user can mend ends in one line and exit code 1."""
    try:
        commands()
    except UserError as error:
        message = str(error)
    except (BotoCoreError, ClientError) as error:
        message = f"the object store does not answer as it should (`liftloop up` starts it): {error}"
    else:
        return
    Console(stderr=True).print(message, style="red", highlight=False, markup=False, soft_wrap=True)
    raise SystemExit(1)


@commands.command()
def up() -> None:
    """Start the object store, the Prefect server, a worker and the bridge, and deploy the flows."""
    stack.start(console.print)


@commands.command()
def demo() -> None:
    """Run both sources through the whole loop and show what came of it."""
    from liftloop.demo.run import run_demo  # noqa: PLC0415  (Feast takes seconds to import; other commands need not wait)

    run_demo(console)


@commands.command()
def down() -> None:
    """Stop everything that `up` started. The data stays."""
    stack.down(load_settings())


@commands.command()
def status() -> None:
    """Show parts, backlog, last successes, champions and disk use.

    Exit code 1 if a part is not well, or a source's features are not as fresh as its contract asks.
    """
    settings = load_settings()
    parts = stack.status(settings)
    _print_table(["part", "state", "address", "detail"], [(p.name, p.state, p.address, p.detail) for p in parts])
    is_well = {part.name: part.state in ("running", "external") for part in parts}
    troubles = [f"{part.name} is {part.state}" for part in parts if not is_well[part.name]]
    try:
        troubles += _print_sources(settings) if is_well[OBJECT_STORE] else ["how the sources are cannot be told"]
    except (BotoCoreError, ClientError, UserError) as error:
        troubles.append(f"how the sources are cannot be told: {error}")
    troubles += _print_disk(settings)
    for trouble in troubles:
        console.print(trouble, style="red", highlight=False, markup=False)
    if troubles:
        raise typer.Exit(1)


def _print_sources(settings: Settings) -> list[str]:
    """What waits, who is champion and when each flow last succeeded; returns the freshness objectives missed."""
    now, store = datetime.now(UTC), Store(settings, attempts=2)
    contracts, troubles = _contracts()
    found = concurrently(partial(source_health, store), contracts)
    rows = [
        (
            each.contract.source,
            each.waiting,
            in_words(now - each.oldest.modified) if each.oldest else "",
            each.held,
            in_words(now - each.features_due_since) if each.features_due_since else "",
            f"{each.champion.version} for {in_words(now - each.champion.since)}" if each.champion else "none",
        )
        for each in found
    ]
    _print_table(["source", "waiting", "the oldest for", "held back", "features behind for", "champion"], rows)
    succeeded = last_successes(store, [contract.source for contract in contracts])
    names = sorted({source for by_source in succeeded.values() for source in by_source})
    ages = [[in_words(now - each[name]) if name in each else "" for each in succeeded.values()] for name in names]
    _print_table(["last success, ago", *succeeded], [(name, *row) for name, row in zip(names, ages, strict=True)])
    return troubles + [miss for each in found for miss in each.misses(now)]


def _contracts() -> tuple[list[Contract], list[str]]:
    """The contracts that can be used, and what is wrong with the others."""
    contracts, troubles = list[Contract](), list[str]()
    for source in declared_sources():
        try:
            contracts.append(load_contract(source))
        except ContractError as error:
            troubles.append(str(error))
    return contracts, troubles


def _print_disk(settings: Settings) -> list[str]:
    """What the embedded parts take and what is free; returns what is short."""
    if not settings.home.exists():
        return []
    free_bytes = shutil.disk_usage(settings.home).free
    used = disk_use(settings.home) | {"free": free_bytes}
    _print_table([str(settings.home), "MiB"], [(name, f"{size / 2**20:,.0f}") for name, size in used.items()])
    if free_bytes >= settings.min_free_bytes:
        return []
    return [f"the disk of {settings.home} is full but for {free_bytes / 2**20:,.0f} MiB: free some"]


@commands.command()
def rollback(
    source: Annotated[str, typer.Argument(help="A source with a contract.")],
    reason: Annotated[str, typer.Option(help="Why. Kept in the audit trail.")],
    to: Annotated[str | None, typer.Option(help="A former champion; else the one before.")] = None,
) -> None:
    """Restore a former champion at once, and put the reason on record."""
    load_contract(source)
    store, run_id = open_store(), str(uuid4())
    with recorded(store, "rollback", run_id, source, {"reason": reason, "to": to}) as run:
        pointer = restore(store, source, reason, to, run_id)
        run.steps.append(move_step("rollback", store, source, pointer))
    console.print(f"the champion of {source} is {pointer.version}, no longer {pointer.previous}")


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
    console.print(f"landed {len(files)} files of {source}")


@commands.command("held")
def list_held(source: Annotated[str, typer.Argument(help="A source with a contract.")]) -> None:
    """List the landed files that are not in the lake, and why."""
    load_contract(source)
    rows = [(e.landed.key, e.status, e.error, "\n".join(e.reasons)) for e in held(open_store(), source)]
    _print_table(["file", "status", "error", "reasons"], rows)


@commands.command()
def erase(
    source: Annotated[str, typer.Argument(help="A source with a contract.")],
    key: Annotated[str, typer.Argument(help="A column, such as user_id.")],
    value: Annotated[str, typer.Argument(help="Whose rows to forget.")],
) -> None:
    """Take a person's rows out of lake and quarantine, and keep them out when their files land again."""
    contract, store = load_contract(source), open_store()
    with recorded(store, "erase", str(uuid4()), source, {"key": key}) as run:
        step, erasure = erase_value(store, contract, key, value)
        run.steps.append(step)
    console.print(f"rewrote {len(step.outputs)} files of {source}; `materialize` makes their features again")
    _print_table(["landed files that hold the rows: they are the publisher's"], [(key,) for key in erasure.landed])


@fetch.command("open-bandit")
def fetch_open_bandit() -> None:
    """Land the Open Bandit sample: 60,000 real impressions with propensities."""
    keys = open_bandit.fetch(partial(land, open_store(), "open_bandit"), cache=load_settings().home / "cache")
    console.print(f"landed {len(keys)} files of open_bandit")


@commands.command()
def simulate(
    impressions: Annotated[int, typer.Option(help="How many impressions, over all days.")] = 500_000,
    days: Annotated[int, typer.Option(help="How many days.")] = 10,
    seed: Annotated[int, typer.Option(help="The same seed lands the same bytes.")] = 7,
) -> None:
    """Land the logs of a simulated publisher; what is true of it stays outside the bucket."""
    from liftloop import simulator  # noqa: PLC0415  (pandas takes most of the start; other commands need not wait)

    settings = simulator.SimulationSettings(impressions=impressions, days=days, seed=seed)
    summary = simulator.simulate(
        settings, partial(land, open_store(), "simulated"), load_settings().home / "truth" / "simulated"
    )
    console.print(f"landed {summary.rows:,} rows in {summary.files} files of simulated")


@commands.command()
def runs(flow: Annotated[str | None, typer.Argument(help="Only this flow's.")] = None) -> None:
    """List the runs on record, newest last."""
    manifests = read_manifests(open_store(), flow)
    if flow and not manifests:
        raise UnknownRunError(f"no run of {flow!r} is on record; `liftloop runs` lists all")
    rows = [(m.flow, m.run_id, m.source, m.status, f"{m.started_at:%F %T}", len(m.steps)) for m in manifests]
    _print_table(["flow", "run", "source", "status", "started (UTC)", "steps"], rows)


@commands.command()
def show(run: Annotated[str, typer.Argument(help="A run's id, or the first characters of it.")]) -> None:
    """Print the manifest of one run: parameters, inputs, outputs, metrics, error."""
    console.print_json(find_manifest(open_store(), run).model_dump_json())


@commands.command()
def lineage(key: Annotated[str, typer.Argument(help="An object's key in the bucket.")]) -> None:
    """Walk an object back, by content hash, to the landed files that caused it."""
    origin = trace(open_store(), key.removeprefix(f"s3://{load_settings().bucket}/"))
    console.print(_grow(Tree("lineage", hide_root=True), [origin]))
    landed = sorted({(ref.key, ref.sha256) for ref in origin.landed()})
    _print_table([f"{len(landed)} landed files", "SHA-256"], landed)


@commands.command()
def verify() -> None:
    """Re-hash every object on record; exit code 1 if one is missing or changed."""
    count, damages = verify_objects(open_store())
    console.print(f"{count} objects on record, {len(damages)} missing or changed")
    if damages:
        _print_table(["object", "problem", "run"], [(d.ref.key, d.problem, d.run) for d in damages])
        raise typer.Exit(1)


def _grow(tree: Tree, origins: Sequence[Origin]) -> Tree:
    """A branch for each step that wrote some of these objects, and under it the steps that it read from."""
    by_step: dict[str, list[Origin]] = {}
    for origin in origins:
        by_step.setdefault(f"{origin.step} in {origin.run}" if origin.run else "landed", []).append(origin)
    for step, written in by_step.items():
        others = len({origin.ref for origin in written}) - 1
        more = f" and {others} more" if others else ""
        branch = tree.add(f"[bold]{step}[/bold]: {written[0].ref.key}{more}")
        _grow(branch, [source for origin in written for source in origin.inputs])
    return tree


def _print_table(columns: list[str], rows: Sequence[Sequence[object]]) -> None:
    table = Table(box=None, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))  # not read as markup
    console.print(table)
