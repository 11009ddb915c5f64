"""What a model card says of the model itself: purpose, data, features, search, limits, and how to load it."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from liftloop.contract.contract import Contract
from liftloop.decisions.policy import EXPLORATION_SHARE
from liftloop.gate.verdict import DOUBTS, Verdict
from liftloop.model.model import Model
from liftloop.registry.versions import ModelVersion
from liftloop.reporting.html import Code, Plot, Points, Table, Text
from liftloop.reporting.plots import share_plot
from liftloop.training.frame import FrameIndex, FramePart

FEATURES_SHOWN = 15
TRIALS_SHOWN = 5
_PARTS = {
    "training": "grows the trees of the search",
    "validation": "ends the search, calibrates, and joins the last fit",
    "holdout": "judges: the model never saw it",
}
_MEASURED = ("number", "log_loss", "rounds", "seconds", "is_given_up")  # of a trial; the rest is what was tried
_UNTOLD = {*DOUBTS, "not_applicable"}


def purpose(contract: Contract) -> Text:
    """What the model is for."""
    return Text(
        "What it is for",
        [
            f"It gives the probability of a {contract.reward} for one impression, from what is known when the ad is"
            f" chosen. {contract.description}.",
            f"Its policy shows, of the ads that compete for the same {contract.choose_among}, the one with the highest"
            f" probability, and in {EXPLORATION_SHARE:.0%} of decisions any of them, so that there is something to"
            " learn from.",
        ],
    )


def data_table(index: FrameIndex, version: ModelVersion) -> Table:
    """The parts of the training frame, and where it came from."""
    rows = [_part_row(name, index.parts[name], use) for name, use in _PARTS.items() if name in index.parts]
    lake = sum(ref.key.startswith("lake/") for ref in index.inputs)
    note = (
        f"Frame {index.fingerprint[:12]} of {version.source}, from {lake} lake files and {len(index.inputs) - lake}"
        f" feature tables, joined as they were at each impression; feature service {version.feature_service}; code"
        f" {version.code_revision}; run {version.manifest or 'not on record'}."
    )
    columns = ["part", "from (UTC)", "to (UTC)", "impressions", f"{version.reward}s", "rate", "what it does"]
    return Table("Data", columns, rows, note)


def importance_plot(model: Model) -> Plot:
    """The features that most of the gain comes from."""
    shares = gain_shares(model)
    shown = dict(islice(shares.items(), FEATURES_SHOWN))
    caption = (
        f"Share of the training loss that the trees save by splitting on each column: {len(shares)} of"
        f" {len(model.spec.encoder.columns)} columns are used, and these {len(shown)} carry {sum(shown.values()):.0%}."
        " It says what the model looks at, not what causes a reward; of two columns that say the same, one gets the"
        " credit."
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
    rows = [[trial["number"], f"{trial['log_loss']:.5f}", trial.get("rounds"), _tried(trial)] for trial in best]
    note = (
        f"The best {len(best)} of {len(trials)}, by log loss on a sample of the validation part. Fitted to all training"
        f" rows and calibrated, the first comes to {version.metrics['validation_log_loss']:.5f} on the whole part; the"
        " model here has then learned from both. Text columns are read as categories (native), by the reward rate of"
        " their values (rates), or both; `strongest` is how many."
    )
    return Table("Search", ["trial", "log loss", "rounds", "what was tried"], rows, note)


def limits(contract: Contract, index: FrameIndex, verdict: Verdict) -> Points:
    """What the model must not be used for, and what its data cannot tell."""
    days = (index.parts["validation"].end - index.parts["training"].start).total_seconds() / 86_400
    said = [
        f"Not for other logs than {contract.source}. A value that training did not see counts as missing: of a new ad"
        " it knows only what its other columns say.",
        "Not for decisions about people, such as credit, work, housing or insurance, and not for billing: it is right"
        " on average over many impressions, and says little of a single one.",
        f"It has seen {days:.1f} days. Seasons, holidays and campaigns to come are not among them, and it grows old:"
        " the scheduled evaluation says when.",
        "The log shows only what was chosen. Where an ad was hardly ever shown, there is little to learn from; that a"
        f" column goes with more {contract.reward}s does not mean that changing it would bring more.",
        f"A {contract.reward} is all that it foretells: not what it is worth, nor whether it would have come without"
        " the ad.",
    ]
    if "user_id" in contract.keys:
        said.append(
            "It has learned from counts per user. Who is erased from the lake leaves it with the next training."
        )
    unknown = [f"{check.name} ({check.reason})" for check in verdict.checks if check.verdict in _UNTOLD]
    return Points("Limits", said + [f"Not judged: {each}" for each in unknown])


def loading(version: ModelVersion) -> Code:
    """How to use it."""
    return Code(
        "How to load it",
        f"""from liftloop.storage.store import open_store
from liftloop.registry.load import load_model
from liftloop.registry.versions import read_version

store = open_store()
model = load_model(store, read_version(store, "{version.source}", "{version.version}"))  # checks the hashes
probability = model.predict(rows)  # a data frame with the columns model.spec.encoder.raw_columns

# for MLflow
liftloop export {version.source} {version.version} FOLDER
mlflow.pyfunc.load_model(FOLDER).predict(rows)""",
    )


def _part_row(name: str, part: FramePart, use: str) -> list[object]:
    times = [f"{time:%Y-%m-%d %H:%M}" for time in (part.start, part.end)]
    return [
        "hold-out" if name == "holdout" else name,
        *times,
        part.rows,
        part.rewards,
        f"{part.rewards / part.rows:.3%}",
        use,
    ]


def _tried(trial: Mapping[str, Any]) -> str:
    """Its settings in one line, whatever they are."""
    settings = {name: value for name, value in trial.items() if name not in _MEASURED}
    flat = {
        inner: found
        for name, value in settings.items()
        for inner, found in (value.items() if isinstance(value, dict) else [(name, value)])
    }
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in flat.items()
    )
