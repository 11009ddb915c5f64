"""`liftloop status`: the state of parts and sources."""

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial

import typer
from botocore.exceptions import BotoCoreError, ClientError

from liftloop import stack
from liftloop.cli.output import console, print_table
from liftloop.contract.loading import load_contracts
from liftloop.errors import UserError
from liftloop.operations.health import disk_use, last_successes, source_health
from liftloop.reporting.words import in_words
from liftloop.settings import Settings, load_settings
from liftloop.stack.parts import OBJECT_STORE, PREFECT_SERVER, WORK_POOL
from liftloop.stack.probes import list_pauses
from liftloop.storage.store import Store, concurrently

commands = typer.Typer()


@commands.command()
def status() -> None:
    """Show parts, backlog, last successes, champions and disk use.

    Exit code 1 if a part is not running or paused, or a source's features are older than its contract allows.
    """
    settings = load_settings()
    parts = stack.status(settings)
    print_table(["part", "state", "address", "detail"], [(p.name, p.state, p.address, p.detail) for p in parts])
    is_well = {part.name: part.state in ("running", "external") for part in parts}
    troubles = [f"{part.name} is {part.state}" for part in parts if not is_well[part.name]]
    if is_well[PREFECT_SERVER]:
        troubles += list_pauses(settings, WORK_POOL)
    try:
        troubles += _print_sources(settings) if is_well[OBJECT_STORE] else ["the state of the sources is unknown"]
    except (BotoCoreError, ClientError, UserError) as error:
        troubles.append(f"the state of the sources is unknown: {error}")
    troubles += _print_disk(settings)
    for trouble in troubles:
        console.print(trouble, style="red", highlight=False, markup=False)
    if troubles:
        raise typer.Exit(1)


def _print_sources(settings: Settings) -> list[str]:
    """Print backlog, champions, trainings and each flow's last success; returns the missed freshness objectives."""
    now, store = datetime.now(UTC), Store(settings, attempts=2)
    contracts, invalid = load_contracts()
    found = concurrently(partial(source_health, store, now=now), contracts)
    rows = [
        (
            each.contract.source,
            each.waiting,
            in_words(now - each.oldest.modified) if each.oldest else "",
            each.outdated,
            each.held,
            in_words(now - each.features_due_since) if each.features_due_since else "",
            f"{each.champion.version} for {in_words(now - each.champion.since)}" if each.champion else "none",
        )
        for each in found
    ]
    print_table(
        ["source", "waiting", "oldest for", "to read again", "held back", "features behind for", "champion"], rows
    )
    print_table(["source", "training"], [(each.contract.source, each.training) for each in found])
    _print_successes(last_successes(store, [contract.source for contract in contracts]), now)
    return [*map(str, invalid.values()), *(miss for each in found for miss in each.misses(now))]


def _print_successes(found: Mapping[str, Mapping[str, datetime]], now: datetime) -> None:
    """Print the age of each flow's last success by source, for the flows that have one."""
    succeeded = {flow: by_source for flow, by_source in found.items() if by_source}
    names = sorted({source for by_source in succeeded.values() for source in by_source})
    rows = [
        (name, *(in_words(now - each[name]) if name in each else "" for each in succeeded.values())) for name in names
    ]
    if rows:
        print_table(["last success, ago", *succeeded], rows)


def _print_disk(settings: Settings) -> list[str]:
    """Print the disk use of the embedded parts and the free space; returns a warning if that is low."""
    if not settings.home.exists():
        return []
    free_bytes = shutil.disk_usage(settings.home).free
    used = disk_use(settings.home) | {"free": free_bytes}
    print_table([str(settings.home), "MiB"], [(name, f"{size / 2**20:,.0f}") for name, size in used.items()])
    if free_bytes >= settings.min_free_bytes:
        return []
    return [f"only {free_bytes / 2**20:,.0f} MiB are free on the disk of {settings.home}: free up space"]
