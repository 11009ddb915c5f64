"""Commands on records: runs, manifests, lineage, verification."""

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.tree import Tree

from liftloop.cli.output import console, print_table
from liftloop.provenance.lineage import Origin, trace
from liftloop.provenance.lineage import verify as verify_objects
from liftloop.reporting.words import counted
from liftloop.settings import load_settings
from liftloop.storage.runs import UnknownRunError, find_manifest, read_manifests
from liftloop.storage.store import open_store

commands = typer.Typer()


@commands.command()
def runs(flow: Annotated[str | None, typer.Argument(help="Only runs of this flow.")] = None) -> None:
    """List the runs on record, newest last."""
    manifests = read_manifests(open_store(), flow)
    if flow and not manifests:
        raise UnknownRunError(f"no run of {flow!r} is on record; `liftloop runs` lists all")
    rows = [(m.flow, m.run_id, m.source, m.status, f"{m.started_at:%F %T}", len(m.steps)) for m in manifests]
    print_table(["flow", "run", "source", "status", "started (UTC)", "steps"], rows)


@commands.command()
def show(run: Annotated[str, typer.Argument(help="A run's id, or its first characters.")]) -> None:
    """Print the manifest of one run: parameters, inputs, outputs, metrics, error."""
    console.print_json(find_manifest(open_store(), run).model_dump_json())


@commands.command()
def lineage(key: Annotated[str, typer.Argument(help="An object's key in the bucket.")]) -> None:
    """Trace an object back, by content hash, to the landed files that it was derived from."""
    origin = trace(open_store(), key.removeprefix(f"s3://{load_settings().bucket}/"))
    console.print(_grow(Tree("lineage", hide_root=True), [origin]))
    ends = {(each.is_landed, each.ref.key, each.ref.sha256) for each in origin.ends()}
    landed = sorted((key, sha256) for is_landed, key, sha256 in ends if is_landed)
    unknown = sorted((key, sha256) for is_landed, key, sha256 in ends if not is_landed)
    print_table([counted(len(landed), "landed file"), "SHA-256"], landed)
    if unknown:
        print_table([f"{counted(len(unknown), 'object')} of unknown producer", "SHA-256"], unknown)


@commands.command()
def verify() -> None:
    """Re-hash every object on record; exit code 1 if one is missing, changed or of unknown producer."""
    count, damages = verify_objects(open_store())
    console.print(f"{counted(count, 'object')} on record, {len(damages)} missing, changed or of unknown producer")
    if damages:
        print_table(["object", "problem", "run"], [(d.ref.key, d.problem, d.run) for d in damages])
        raise typer.Exit(1)


def _producer(origin: Origin) -> str:
    if origin.run is not None:
        return f"{origin.step} in {origin.run}"
    return "landed" if origin.is_landed else "unknown producer"


def _grow(tree: Tree, origins: Sequence[Origin]) -> Tree:
    """Add a branch for each step that wrote any of these objects, with the steps of its inputs below it."""
    by_step: dict[str, list[Origin]] = {}
    for origin in origins:
        by_step.setdefault(_producer(origin), []).append(origin)
    for step, written in by_step.items():
        others = len({origin.ref for origin in written}) - 1
        more = f" and {others} more" if others else ""
        branch = tree.add(f"[bold]{step}[/bold]: {written[0].ref.key}{more}")
        _grow(branch, [source for origin in written for source in origin.inputs])
    return tree
