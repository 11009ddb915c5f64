"""The model's part of a model card: purpose, data, features, search, limits, and how to load it."""

from collections.abc import Mapping
from itertools import chain, islice
from typing import Any

from liftloop.contract.contract import Contract
from liftloop.contract.sections import Objective
from liftloop.decisions.policy import EXPLORATION_SHARE
from liftloop.evaluation.earned import UNITS, in_unit
from liftloop.evaluation.fixed_policies import FEW_ADS
from liftloop.gate.checks.arms import MINIMUM_EARNING, PLACES_VALUED
from liftloop.gate.verdict import UNDECIDED, Verdict
from liftloop.model.model import Model
from liftloop.registry.versions import ModelVersion
from liftloop.reporting.html import Code, Plot, Points, Table, Text
from liftloop.reporting.plots import share_plot
from liftloop.storage.keys import LAKE
from liftloop.training.frame import FrameIndex, FramePart, Part

FEATURES_SHOWN = 15
TRIALS_SHOWN = 5
_PARTS: dict[Part, str] = {
    "training": "fits the trees of the search",
    "validation": "early stopping and calibration; part of the final fit",
    "holdout": "judges the model, which never saw it",
}
_MEASURED = (
    "number",
    "log_loss",
    "rounds",
    "seconds",
    "is_given_up",
)  # measures of a trial; its other values are settings
_VALUES = {  # of the checks of decisions
    "logged": "the logged policies",
    "doubly_robust": "the model, doubly robust",
    "self_normalized": "the model, SNIPS",
    "inverse_propensity": "the model, IPS",
    "switch_doubly_robust": "the model, Switch-DR",
    "difference": "the model minus its rival, paired",
    "fixed": "the ad that earned most before in each place, doubly robust",
    "fixed_difference": "the model minus that ad, paired",
}
_AIMS: dict[Objective, str] = {
    "clicks": "with the highest probability of a click",
    "conversions": "with the highest probability of a conversion",
    "revenue": "with the highest expected revenue",
    "margin": "with the highest expected margin",
}
_NOT_JUDGED = {*UNDECIDED, "not_applicable"}


def purpose(contract: Contract) -> Text:
    """The model's purpose."""
    return Text(
        "Purpose",
        [
            f"Predicts the probability of a {contract.reward} for one impression from what is known when the ad is"
            f" chosen. {contract.description}.",
            f"The policy shows the ad {_AIMS[contract.objective]} among those that compete for the same"
            f" {contract.choose_among}; {EXPLORATION_SHARE:.0%} of decisions explore all of them evenly.",
        ],
    )


def data_table(index: FrameIndex, version: ModelVersion, negatives_kept: float) -> Table:
    """The parts of the training frame, and its sources."""
    parts = {name: index.parts[name] for name in _PARTS if name in index.parts}
    rows = [_part_row(name, part, part.reward_rate(negatives_kept)) for name, part in parts.items()]
    lake = sum(ref.key.startswith(LAKE) for ref in index.inputs)
    note = (
        f"Frame {index.fingerprint[:12]} of {version.source}, from {lake} lake files and {len(index.inputs) - lake}"
        f" feature tables, joined as of each impression, less a landing delay of {index.landing_delay}; feature service"
        f" {version.feature_service}; code {version.code_revision}; run {version.manifest or 'not on record'}."
    )
    columns = ["part", "from (UTC)", "to (UTC)", "impressions", f"{version.reward}s", "rate", "use"]
    return Table("Data", columns, rows, note)


def importance_plot(model: Model) -> Plot:
    """The features with the largest share of the gain."""
    shares = gain_shares(model)
    shown = dict(islice(shares.items(), FEATURES_SHOWN))
    caption = (
        f"Share of the total gain (reduction in training loss) by column: {len(shares)} of"
        f" {len(model.spec.encoder.columns)} columns are used, and these {len(shown)} carry {sum(shown.values()):.0%}."
        " Gain shows what the model relies on, not what causes a reward; of two correlated columns, one"
        " gets the credit."
    )
    return Plot("Features", share_plot(shown), caption)


def gain_shares(model: Model) -> dict[str, float]:
    """Each used column's share of the trees' total gain, the largest first."""
    gains: Mapping[str, Any] = model.booster.get_score(importance_type="total_gain")
    total = sum(gains.values())
    return {name: gain / total for name, gain in sorted(gains.items(), key=lambda item: (-item[1], item[0]))}


def trials_table(version: ModelVersion) -> Table | None:
    """The best trials of the search."""
    trials: list[dict[str, Any]] = version.metrics.get("trials", [])
    best = sorted(trials, key=lambda trial: trial["log_loss"])[:TRIALS_SHOWN]
    if not best:
        return None
    rows = [[trial["number"], f"{trial['log_loss']:.5f}", trial.get("rounds"), _settings(trial)] for trial in best]
    note = (
        f"The best {len(best)} of {len(trials)} by log loss on a sample of the validation part. Refitted to all"
        f" training rows and calibrated, the best has a log loss of {version.metrics['validation_log_loss']:.5f} on the"
        " whole validation part; the final model is then fitted to both parts. Text columns are categorical (native),"
        " target encoded (rates), or both; `strongest` is the number of text columns used."
    )
    return Table("Search", ["trial", "log loss", "rounds", "settings"], rows, note)


def limits(contract: Contract, index: FrameIndex, verdict: Verdict) -> Points:
    """Uses that are out of scope, and limits of the data."""
    days = (index.parts["validation"].end - index.parts["training"].start).total_seconds() / 86_400
    points = [
        f"Not for logs other than {contract.source}. A value that is not in the training data counts as missing: for a"
        " new ad the model uses only its other columns.",
        "Not for decisions about people, such as credit, work, housing or insurance, and not for billing: predictions"
        " are right on average over many impressions, not for a single one.",
        f"Trained on {days:.1f} days, which hold no future season, holiday or campaign. The scheduled evaluation"
        " reports when the model degrades.",
        "The log shows only what was chosen: rarely shown ads have little data. That a column correlates with more"
        f" {contract.reward}s does not mean that changing it causes more.",
        f"It predicts a {contract.reward}, not whether it would happen without the ad.",
    ]
    if "user_id" in contract.keys:
        points.append(
            "Features include counts per user. A user who is erased from the lake leaves the model with the next"
            " training."
        )
    unknown = [f"{check.title} ({check.reason})" for check in verdict.checks if check.verdict in _NOT_JUDGED]
    return Points("Limits", points + [f"Not judged: {each}" for each in unknown])


def decisions_table(contract: Contract, verdict: Verdict) -> Table | None:
    """The values of the decisions in the unit of the objective; None where they were not valued."""
    of_checks = (check.values for check in verdict.checks if check.id.startswith("decisions"))
    values = dict(chain.from_iterable(each.items() for each in of_checks))
    rows = [[label, in_unit(contract.objective, values[name])] for name, label in _VALUES.items() if name in values]
    note = (
        f"In {UNITS[contract.objective]}, with {contract.gate.confidence:.0%} intervals, on the same impressions."
        f" Of the rewards, the {contract.gate.winsorized_share:.1%} with the largest amounts count as the next largest."
    )
    return Table("Value of the decisions", ["decided by", "value"], rows, note) if rows else None


def arms_table(contract: Contract, verdict: Verdict) -> Table | None:
    """The values of fixed policies; None where there are none."""
    rows = [
        [
            row.place,
            row.ad_id,
            row.impressions,
            row.shown,
            row.value and in_unit(contract.objective, row.value),
            f"{row.effective_sample_size:,.0f}",
        ]
        for row in verdict.arms
    ]
    note = (
        f"Doubly robust, in {UNITS[contract.objective]}, on the impressions for which the ad competes; – where it"
        f" earned something in fewer than {MINIMUM_EARNING} of those with it. Of the {PLACES_VALUED} largest places"
        f" with at most {FEW_ADS} ads."
    )
    columns = [contract.choose_among, "ad", "impressions", "shown", "value", "effective sample size"]
    return Table("Always the same ad", columns, rows, note) if rows else None


def loading(version: ModelVersion) -> Code:
    """Code that loads the model."""
    return Code(
        "How to load it",
        f"""from liftloop.registry.load import load_model
from liftloop.registry.registry import Registry
from liftloop.storage.store import open_store

store = open_store()
model = load_model(store, Registry(store, "{version.source}").version("{version.version}"))  # checks the hashes
probability = model.predict(rows)  # a data frame with the columns model.spec.encoder.raw_columns

# for MLflow
liftloop export {version.source} {version.version} FOLDER
mlflow.pyfunc.load_model(FOLDER).predict(rows)""",
    )


def _part_row(name: Part, part: FramePart, reward_rate: float) -> list[object]:
    times = [f"{time:%Y-%m-%d %H:%M}" for time in (part.start, part.end)]
    return [
        "hold-out" if name == "holdout" else name,
        *times,
        part.rows,
        part.rewards,
        f"{reward_rate:.3%}",
        _PARTS[name],
    ]


def _settings(trial: Mapping[str, Any]) -> str:
    """A trial's settings in one line."""
    settings = {name: value for name, value in trial.items() if name not in _MEASURED}
    flat = {
        inner: found
        for name, value in settings.items()
        for inner, found in (value.items() if isinstance(value, dict) else [(name, value)])
    }
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in flat.items()
    )
