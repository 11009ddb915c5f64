"""The demo's final tables: the results of each source, and the true value of the champion's decisions."""

import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from liftloop.contract.loading import load_contract
from liftloop.datasets.open_bandit_value import SOURCE
from liftloop.datasets.simulated.truth import Truth
from liftloop.features.definitions import feature_columns
from liftloop.gate.verdict import Verdict
from liftloop.lake.lake import Lake
from liftloop.lake.ledger import blocked, ingested
from liftloop.registry.registry import Registry
from liftloop.registry.versions import ModelVersion
from liftloop.reporting.html import copy_page
from liftloop.storage.keys import card_key, off_policy_key
from liftloop.storage.store import Store

_COUNTS = {
    "landed": "rows_landed",
    "valid": "rows_valid",
    "quarantined": "rows_quarantined",
    "duplicate": "rows_duplicate",
}
_COLUMN_WIDTH = 46


def print_summary(store: Store, sources: Sequence[str], truth_folder: Path, console: Console) -> None:
    """Print one column per source, then the simulated champion's lift, estimated from the log and true."""
    newest = {source: Registry(store, source).versions()[-1] for source in sources}
    verdicts = {source: _verdict(store, version) for source, version in newest.items()}
    facts = {source: _facts(store, newest[source], verdicts[source]) for source in sources}
    table = Table("", title="Results", title_justify="left")
    for source in sources:
        table.add_column(source, max_width=_COLUMN_WIDTH)
    for label in facts[sources[0]]:
        table.add_row(label, *(facts[source][label] for source in sources))
    console.print(table)
    for source in sources:
        console.print(
            f"report of {source}: {copy_page(store, card_key(source, newest[source].version))}", soft_wrap=True
        )
    console.print(f"off-policy page of {SOURCE}: {copy_page(store, off_policy_key(SOURCE))}", soft_wrap=True)
    console.print(_lift_table(store, verdicts["simulated"], Truth.load(truth_folder)))


def _facts(store: Store, version: ModelVersion, verdict: Verdict) -> dict[str, str]:
    lake = Lake(store, load_contract(version.source))
    entries = [*ingested(lake), *blocked(lake)]
    counts = {f"rows {word}": f"{sum(getattr(e, name) for e in entries):,}" for word, name in _COUNTS.items()}
    model = verdict.scores["model"]
    return counts | {
        "features": str(len(feature_columns(load_contract(version.source)))),
        "trials": str(len(version.metrics["trials"])),
        "log loss": f"{model.log_loss:.5f}",
        "normalized entropy": f"{model.normalized_entropy:.4f}",
        "verdict": verdict.verdict,
        "reasons": verdict.summary.removeprefix(f"{verdict.verdict}: "),
    }


def _verdict(store: Store, version: ModelVersion) -> Verdict:
    assert version.evidence is not None  # the gate judges every version of a completed run
    return Verdict.model_validate_json(store.get_verified(version.evidence))


def _lift_table(store: Store, verdict: Verdict, truth: Truth) -> Table:
    check = verdict.check("decisions")
    decisions = pd.read_parquet(io.BytesIO(store.get_verified(check.artifacts[0])))
    table = Table(
        "", "per impression", "lift", title="Click rate of the simulated champion's decisions", title_justify="left"
    )
    logged = check.values["logged"].estimate
    for label, name in {
        "logged policies": "logged",
        "SNIPS": "self_normalized",
        "doubly robust": "doubly_robust",
    }.items():
        value = check.values[name]
        table.add_row(label, f"{value:.3%}", f"{value.estimate / logged - 1:+.1%}")
    true_logged, true_chosen = (_true_rate(truth, decisions, column) for column in ("ad_id", "chosen_ad_id"))
    table.add_row("true, logged policies", f"{true_logged:.3%}", "")
    table.add_row("true, the model", f"{true_chosen:.3%}", f"{true_chosen / true_logged - 1:+.1%}")
    return table


def _true_rate(truth: Truth, decisions: pd.DataFrame, ad_column: str) -> float:
    names = ("user_id", "placement_id", "device", "event_timestamp", ad_column)
    user_id, placement_id, device, event_timestamp, ad_id = (decisions[name] for name in names)
    return float(truth.click_probability(user_id, placement_id, device, event_timestamp, ad_id).mean())
