"""The demo's final tables: the results of each source, and the true value of the champion's decisions."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from liftloop.contract.loading import load_contract
from liftloop.datasets.open_bandit_value import SOURCE
from liftloop.datasets.simulated.decision_truth import DecisionTruth
from liftloop.evaluation.earned import in_unit
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
_DECIDED = ("ad_id", "chosen_ad_id")


def print_summary(store: Store, sources: Sequence[str], truth_folder: Path, console: Console) -> None:
    """Print one column per source, every verdict, then what the simulated decisions earn, estimated and true."""
    newest = {source: Registry(store, source).versions()[-1] for source in sources}
    verdicts = {source: _verdict(store, version) for source, version in newest.items()}
    facts = {source: _facts(store, newest[source], verdicts[source]) for source in sources}
    table = Table("", title="Results", title_justify="left")
    for source in sources:
        table.add_column(source, max_width=_COLUMN_WIDTH)
    for label in facts[sources[0]]:
        table.add_row(label, *(facts[source][label] for source in sources))
    console.print(table)
    console.print(_verdicts_table(store, sources))
    for source in sources:
        console.print(
            f"report of {source}: {copy_page(store, card_key(source, newest[source].version))}", soft_wrap=True
        )
    console.print(f"off-policy page of {SOURCE}: {copy_page(store, off_policy_key(SOURCE))}", soft_wrap=True)
    console.print(_earned_table(store, verdicts["simulated"], DecisionTruth.load(truth_folder)))


def _verdicts_table(store: Store, sources: Sequence[str]) -> Table:
    """Every version, and what the gate said of it."""
    columns = ("source", "version", "compared with", "verdict", "why")
    table = Table(*columns, title="Verdicts, the oldest first", title_justify="left")
    for source in sources:
        for version in Registry(store, source).versions():
            verdict = _verdict(store, version)
            why = verdict.summary.removeprefix(f"{verdict.verdict}: ")
            table.add_row(source, version.version, verdict.champion or "no champion", verdict.verdict, why)
    return table


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
    }


def _verdict(store: Store, version: ModelVersion) -> Verdict:
    assert version.evidence is not None  # the gate judges every version of a completed run
    return Verdict.model_validate_json(store.get_verified(version.evidence))


def _earned_table(store: Store, verdict: Verdict, truth: DecisionTruth) -> Table:
    """The revenue of the newest version's decisions; where it chose an ad that could not be shown, none is true."""
    check = verdict.check("decisions")
    decisions = pd.read_parquet(io.BytesIO(store.get_verified(check.artifacts[0])))
    title = "Revenue per 1,000 impressions of the decisions of the newest simulated version"
    table = Table("", "revenue", "lift", title=title, title_justify="left")
    logged = check.values["logged"].estimate
    for label, name in {
        "logged policies": "logged",
        "SNIPS": "self_normalized",
        "doubly robust": "doubly_robust",
    }.items():
        value = check.values[name]
        table.add_row(label, in_unit("revenue", value), f"{value.estimate / logged - 1:+.1%}")
    true_logged, true_chosen = (
        float(np.nanmean(truth.value(decisions["impression_id"], decisions[column]))) for column in _DECIDED
    )
    table.add_row("true, logged policies", in_unit("revenue", true_logged), "")
    table.add_row("true, the model", in_unit("revenue", true_chosen), f"{true_chosen / true_logged - 1:+.1%}")
    return table
