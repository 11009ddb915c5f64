"""Commands on what is on record: runs, objects, champions."""

from collections.abc import Sequence
from typing import Annotated
from uuid import uuid4

import typer
from rich.tree import Tree

from liftloop.cli.output import console, print_table
from liftloop.contract import load_contract
from liftloop.lineage import Origin, trace
from liftloop.lineage import verify as verify_objects
from liftloop.runs import UnknownRunError, find_manifest, read_manifests, recorded
from liftloop.settings import load_settings
from liftloop.store import open_store
from liftloop.training.moves import move_step
from liftloop.training.rollback import rollback as restore

commands = typer.Typer()


@commands.command()
def runs(flow: Annotated[str | None, typer.Argument(help="Only this flow's.")] = None) -> None:
    """List the runs on record, newest last."""
    manifests = read_manifests(open_store(), flow)
    if flow and not manifests:
        raise UnknownRunError(f"no run of {flow!r} is on record; `liftloop runs` lists all")
    rows = [(m.flow, m.run_id, m.source, m.status, f"{m.started_at:%F %T}", len(m.steps)) for m in manifests]
    print_table(["flow", "run", "source", "status", "started (UTC)", "steps"], rows)


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
    print_table([f"{len(landed)} landed files", "SHA-256"], landed)


@commands.command()
def verify() -> None:
    """Re-hash every object on record; exit code 1 if one is missing or changed."""
    count, damages = verify_objects(open_store())
    console.print(f"{count} objects on record, {len(damages)} missing or changed")
    if damages:
        print_table(["object", "problem", "run"], [(d.ref.key, d.problem, d.run) for d in damages])
        raise typer.Exit(1)


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
