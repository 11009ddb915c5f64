"""Commands on model versions: list, promote, compare, export, roll back."""

from functools import partial
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer

from liftloop.cli.output import console, print_table
from liftloop.contract.loading import load_contract
from liftloop.registry.aliases import ALIASES, aliases, find_version
from liftloop.registry.export import export
from liftloop.registry.registry import Registry
from liftloop.registry.rollback import rollback as restore
from liftloop.reporting.words import counted
from liftloop.storage.runs import recorded
from liftloop.storage.store import concurrently, open_store

commands = typer.Typer()

Source = Annotated[str, typer.Argument(help="A source with a contract.")]
_NAMES = f"A version, or one of {', '.join(ALIASES)}."
Named = Annotated[str, typer.Argument(help=_NAMES)]


@commands.command()
def models(source: Source) -> None:
    """List a source's model versions, newest last, with the gate's verdict on each."""
    from liftloop.gate.verdict import read_verdict  # noqa: PLC0415  (pandas takes seconds; other commands need not wait)

    load_contract(source)
    store = open_store()
    named, versions = aliases(Registry(store, source)), Registry(store, source).versions()
    rows = []
    for each, verdict in zip(versions, concurrently(partial(read_verdict, store), versions), strict=True):
        loss = each.metrics.get("validation_log_loss")
        rows.append(
            (
                each.version,
                ", ".join(alias for alias, version in named.items() if version == each.version),
                f"{each.created_at:%F %T}",
                each.reward,
                f"{loss:.5f}" if loss is not None else "",
                verdict.verdict if verdict else "not judged",
                each.metrics.get("rounds"),
                f"{each.size_bytes / 2**10:,.0f}",
            )
        )
    columns = ["version", "alias", "created (UTC)", "reward", "validation log loss", "gate", "rounds", "KiB"]
    print_table(columns, rows)


@commands.command()
def promote(
    source: Source,
    version: Named,
    reason: Annotated[str, typer.Option(help="Why. Kept in the audit trail.")],
    challenger: Annotated[bool, typer.Option("--challenger", help="Name a challenger; the champion stays.")] = False,
    override_gate: Annotated[
        bool,
        typer.Option(
            "--override-gate", help="Even if the gate refused or never judged it; recorded in the audit trail."
        ),
    ] = False,
) -> None:
    """Make a version champion, or challenger, by hand; prints the gate's verdict."""
    from liftloop.gate import override  # noqa: PLC0415  (pandas takes seconds; other commands need not wait)
    from liftloop.gate.verdict import read_verdict  # noqa: PLC0415

    load_contract(source)
    store, run_id = open_store(), str(uuid4())
    wanted = find_version(Registry(store, source), version)
    console.print(f"the gate on {wanted.version}: {override.gate_words(read_verdict(store, wanted))}", markup=False)
    parameters = {"version": wanted.version, "reason": reason, "challenger": challenger}
    with recorded(store, "promote", run_id, source, parameters | {"override_gate": override_gate}):
        if challenger:
            override.challenge_by_hand(store, wanted, reason, run_id, override_gate=override_gate)
        else:
            override.promote_by_hand(store, wanted, reason, run_id, override_gate=override_gate)
    console.print(f"the {'challenger' if challenger else 'champion'} of {source} is {wanted.version}")


@commands.command()
def compare(source: Source, first: Named, second: Named) -> None:
    """Compare two versions, paired and with intervals, on the newest impressions that neither was trained on."""
    from liftloop.gate.compare import compare as compare_versions  # noqa: PLC0415  (the same)

    contract, store = load_contract(source), open_store()
    found = compare_versions(
        store, contract, *(find_version(Registry(store, source), name) for name in (first, second))
    )
    rows = [
        (
            each.name,
            f"{each.impressions:,}",
            f"{each.rewards:,}",
            f"{each.first.log_loss:.5f}",
            f"{each.second.log_loss:.5f}",
            f"{each.loss_reduction:+.2%}",
        )
        for each in found.rows
    ]
    console.print(f"log loss on impressions from {found.since:%F %T} to {found.until:%F %T} UTC", highlight=False)
    names = [found.first.version, found.second.version]
    print_table(["", "impressions", f"{contract.reward}s", *names, f"{names[0]} reduces it by"], rows)
    console.print(found.words)


@commands.command("export")
def export_version(
    source: Source, version: Named, folder: Annotated[Path, typer.Argument(help="A new or empty folder.")]
) -> None:
    """Write a version as a folder that MLflow can load."""
    load_contract(source)
    store = open_store()
    files = export(store, find_version(Registry(store, source), version), folder)
    console.print(f"wrote {counted(len(files), 'file')} into {folder}", soft_wrap=True)


@commands.command()
def rollback(
    source: Source,
    reason: Annotated[str, typer.Option(help="Why. Kept in the audit trail.")],
    to: Annotated[str | None, typer.Option(help="A former champion; by default the previous one.")] = None,
) -> None:
    """Restore a former champion at once, and record the reason."""
    load_contract(source)
    store, run_id = open_store(), str(uuid4())
    with recorded(store, "rollback", run_id, source, {"reason": reason, "to": to}):
        pointer = restore(Registry(store, source), reason, to, run_id)
    console.print(f"the champion of {source} is {pointer.version}, no longer {pointer.previous}")
