"""What Open Bandit's Thompson sampling would have earned on the impressions of its uniform random policy.

The sample logs both policies over the same period, so the estimates can be compared with the observed click rate.
"""

import io
from dataclasses import dataclass
from uuid import uuid4

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liftloop.datasets.open_bandit import CAMPAIGNS, POLICIES, SDIST_SHA256, read_log, read_prior
from liftloop.reporting.html import Plot, Section, Table, Text, render_report
from liftloop.reporting.plots import interval_plot
from liftloop.stats.columns import Floats
from liftloop.stats.interval import Interval, bootstrap_mean
from liftloop.stats.off_policy import (
    LoggedFeedback,
    doubly_robust_value,
    effective_sample_size,
    importance_weights,
    inverse_propensity_value,
    self_normalized_value,
    switch_doubly_robust_value,
)
from liftloop.stats.shrinkage import smoothed_rates
from liftloop.stats.thompson import slot_probabilities
from liftloop.storage.hashing import fingerprint_of
from liftloop.storage.keys import landing_prefix, off_policy_key
from liftloop.storage.runs import Step, record, recorded
from liftloop.storage.store import Store, references

RULE_VERSION = "off-policy page 2"
SOURCE = "open_bandit"
SLOTS = 3
DRAWS = 100_000
SEED = 7
FOLDS = 2
SWITCH_WEIGHT = 10.0  # with larger weights, one click in 10,000 rows changes the value by a tenth of the click rate


@dataclass(frozen=True)
class CampaignValue:
    """Clicks per impression of one campaign, each with a 95 % interval."""

    campaign: str
    on_policy: Interval  # of Thompson sampling's own impressions
    logged: Interval  # of the random policy's
    estimates: dict[str, Interval]  # of Thompson sampling from the random policy's, by estimator
    effective_sample_size: float
    impressions: int
    agreement: float  # correlation, over items and slots, of computed probabilities and observed shares


def write_off_policy_page(store: Store, sdist: bytes) -> None:
    """Write the page under `off_policy_key`, recorded with its landed logs as inputs; once per sample and rule.

    `sdist` is the package that `liftloop fetch open-bandit` caches: only it has the priors of Thompson sampling.

    Raises:
        OpenBanditError: a file of the package is missing.
    """
    key, fingerprint = off_policy_key(SOURCE), fingerprint_of(RULE_VERSION, SDIST_SHA256)
    if store.fingerprint(key) == fingerprint:
        return
    with recorded(store, "off_policy", str(uuid4()), SOURCE, {"package_sha256": SDIST_SHA256}):
        page = store.put(key, off_policy_page(off_policy_values(sdist)).encode(), fingerprint=fingerprint)
        logs = [item.key for policy in POLICIES for item in store.list(f"{landing_prefix(SOURCE)}{policy}/")]
        record(Step(name="off_policy", inputs=references(store, logs), outputs=(page,)))


def off_policy_values(sdist: bytes) -> list[CampaignValue]:
    """One value for each campaign of the sample."""
    return [_campaign_value(sdist, campaign) for campaign in CAMPAIGNS]


def off_policy_page(values: list[CampaignValue]) -> str:
    """A page that works offline: a plot for each campaign, and all figures as a table."""
    plots: list[Section] = [_plot(value) for value in values]
    return render_report(
        "Thompson sampling on Open Bandit, valued off-policy",
        [_reading(values), _table(values), *plots],
        subtitle="from the impressions of the uniform random policy, 24 to 30 November 2019",
    )


def _campaign_value(sdist: bytes, campaign: str) -> CampaignValue:
    prior = read_prior(sdist, campaign)
    chosen = slot_probabilities(prior["alpha"], prior["beta"], SLOTS, draws=DRAWS, seed=SEED)
    random, own = (_read(sdist, policy, campaign) for policy in ("random", "bts"))
    feedback = _feedback(random, chosen)
    return CampaignValue(
        campaign,
        on_policy=bootstrap_mean(own["click"], seed=SEED),
        logged=bootstrap_mean(random["click"], seed=SEED),
        estimates={
            "IPS": inverse_propensity_value(feedback, seed=SEED),
            "SNIPS": self_normalized_value(feedback, seed=SEED),
            "DR": doubly_robust_value(feedback, seed=SEED),
            "Switch-DR": switch_doubly_robust_value(feedback, max_weight=SWITCH_WEIGHT, seed=SEED),
        },
        effective_sample_size=effective_sample_size(importance_weights(feedback)),
        impressions=len(random),
        agreement=float(np.corrcoef(_shares_shown(own, chosen.shape).ravel(), chosen.ravel())[0, 1]),
    )


def _read(sdist: bytes, policy: str, campaign: str) -> pd.DataFrame:
    columns = ["item_id", "position", "click", "propensity_score"]
    return pd.read_csv(io.BytesIO(read_log(sdist, policy, campaign)), usecols=columns)


def _feedback(log: pd.DataFrame, chosen: Floats) -> LoggedFeedback:
    """The reward model, each item's own smoothed rate, is learned from the other fold."""
    item, slot = _choices(log)
    fold = np.random.default_rng(SEED).integers(FOLDS, size=len(log))
    expected = np.stack([_item_rates(log[fold != number], len(chosen)) for number in range(FOLDS)])[fold]
    return LoggedFeedback(
        reward=log["click"].to_numpy(dtype=np.float64),
        propensity=log["propensity_score"].to_numpy(),
        target_probability=chosen[item, slot],
        model_reward=expected[np.arange(len(log)), item],
        model_target_reward=(expected * chosen.T[slot]).sum(axis=1),
    )


def _choices(log: pd.DataFrame) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Item and slot of each impression, counted from 0."""
    return log["item_id"].to_numpy(dtype=np.intp), log["position"].to_numpy(dtype=np.intp) - 1


def _shares_shown(log: pd.DataFrame, shape: tuple[int, ...]) -> Floats:
    """How often each item was shown in each slot, shape (items, slots)."""
    counts = np.zeros(shape)
    np.add.at(counts, _choices(log), 1)
    return np.asarray(counts / counts.sum(axis=0))


def _item_rates(log: pd.DataFrame, items: int) -> Floats:
    clicks = log.groupby("item_id")["click"]
    counts = pd.DataFrame({"impressions": clicks.size(), "rewards": clicks.sum()}).astype(np.float64)
    rate = float(log["click"].mean())
    return np.asarray(smoothed_rates(counts, rate).reindex(range(items), fill_value=rate), dtype=np.float64)


def _plot(value: CampaignValue) -> Plot:
    intervals = value.estimates | {"random policy, as logged": value.logged, "Thompson sampling, live": value.on_policy}
    percent = {name: Interval(*(100 * x for x in (v.estimate, v.low, v.high))) for name, v in intervals.items()}
    svg = interval_plot(percent, guide=100 * value.on_policy.estimate, label="clicks per 100 impressions")
    caption = "The dashed line is Thompson sampling's observed click rate in the same week."
    return Plot(f"Campaign {value.campaign}", svg, caption)


def _reading(values: list[CampaignValue]) -> Text:
    covered = sum(
        estimate.low <= value.on_policy.estimate <= estimate.high
        for value in values
        for estimate in value.estimates.values()
    )
    agreements = [f"{value.agreement:.2f} in {value.campaign}" for value in values]
    return Text(
        "How to read it",
        [
            "What would Thompson sampling have earned on the impressions of the random policy? Both policies ran at the"
            f" same time, so the estimates can be checked: {covered} of {sum(len(v.estimates) for v in values)}"
            " intervals contain the click rate of Thompson sampling's own impressions.",
            f"Its probabilities of showing each item in each slot are computed from {DRAWS:,} draws of its published"
            " posteriors (prior_bts.yaml of the package). They differ from the live policy: their correlation with the"
            f" observed shares is {', '.join(agreements)}.",
        ],
    )


def _table(values: list[CampaignValue]) -> Table:
    names = list(values[0].estimates)
    rows = [
        [
            v.campaign,
            f"{v.on_policy:.2%}",
            *(f"{v.estimates[name]:.2%}" for name in names),
            f"{v.effective_sample_size:,.0f}",
        ]
        for v in values
    ]
    note = f"95 % bootstrap intervals. The effective sample is out of {values[0].impressions:,} impressions."
    return Table("Click rate", ["campaign", "live", *names, "effective sample"], rows, note)
