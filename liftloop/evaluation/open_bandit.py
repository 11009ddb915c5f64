"""What Open Bandit's Thompson sampling would have earned on the impressions of its uniform random policy.

The sample logs both policies at the same time, so the estimates stand beside what Thompson sampling truly brought.
"""

import io
from dataclasses import dataclass

import numpy as np
import pandas as pd

from liftloop.gate.baselines import smoothed_rates
from liftloop.landing.open_bandit import CAMPAIGNS, read_log, read_prior
from liftloop.plots import interval_plot
from liftloop.reports import Plot, Section, Table, render_report
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
from liftloop.stats.thompson import slot_probabilities

SLOTS = 3
SEED = 7
FOLDS = 2
SWITCH_WEIGHT = 10.0  # beyond, one click in 10,000 rows would move the value by a tenth of the click rate


@dataclass(frozen=True)
class CampaignValue:
    """Clicks per impression of one campaign, each with a 95 % interval."""

    campaign: str
    on_policy: Interval  # of Thompson sampling's own impressions
    logged: Interval  # of the random policy's
    estimates: dict[str, Interval]  # of Thompson sampling from the random policy's, by estimator
    effective_sample_size: float
    impressions: int


def off_policy_values(sdist: bytes) -> list[CampaignValue]:
    """One value for each campaign of the sample."""
    return [_campaign_value(sdist, campaign) for campaign in CAMPAIGNS]


def off_policy_page(values: list[CampaignValue]) -> str:
    """A page that works offline: a plot for each campaign, and all figures as a table."""
    plots: list[Section] = [_plot(value) for value in values]
    return render_report(
        "Thompson sampling on Open Bandit, valued off-policy",
        [*plots, _table(values)],
        subtitle="from the impressions of the uniform random policy, 24 to 30 November 2019",
    )


def _campaign_value(sdist: bytes, campaign: str) -> CampaignValue:
    prior = read_prior(sdist, campaign)
    chosen = slot_probabilities(prior["alpha"], prior["beta"], SLOTS, seed=SEED)
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
    )


def _read(sdist: bytes, policy: str, campaign: str) -> pd.DataFrame:
    columns = ["item_id", "position", "click", "propensity_score"]
    return pd.read_csv(io.BytesIO(read_log(sdist, policy, campaign)), usecols=columns)


def _feedback(log: pd.DataFrame, chosen: Floats) -> LoggedFeedback:
    """The reward model, each item's own smoothed rate, is learned from the other fold."""
    item, slot = log["item_id"].to_numpy(), log["position"].to_numpy() - 1
    fold = np.random.default_rng(SEED).integers(FOLDS, size=len(log))
    expected = np.stack([_item_rates(log[fold != number], len(chosen)) for number in range(FOLDS)])[fold]
    return LoggedFeedback(
        reward=log["click"].to_numpy(dtype=np.float64),
        propensity=log["propensity_score"].to_numpy(),
        target_probability=chosen[item, slot],
        model_reward=expected[np.arange(len(log)), item],
        model_target_reward=(expected * chosen.T[slot]).sum(axis=1),
    )


def _item_rates(log: pd.DataFrame, items: int) -> Floats:
    clicks = log.groupby("item_id")["click"]
    counts = pd.DataFrame({"impressions": clicks.size(), "rewards": clicks.sum()}).astype(np.float64)
    rate = float(log["click"].mean())
    return np.asarray(smoothed_rates(counts, rate).reindex(range(items), fill_value=rate), dtype=np.float64)


def _plot(value: CampaignValue) -> Plot:
    intervals = value.estimates | {"random policy, as logged": value.logged, "Thompson sampling, live": value.on_policy}
    percent = {name: Interval(*(100 * x for x in (v.estimate, v.low, v.high))) for name, v in intervals.items()}
    svg = interval_plot(percent, guide=100 * value.on_policy.estimate, label="clicks per 100 impressions")
    return Plot(value.campaign, svg, "The dashed line is what Thompson sampling truly brought in the same week.")


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
    note = (
        f"95 % bootstrap intervals. The effective sample is out of {values[0].impressions:,} impressions. Thompson"
        " sampling went on learning during the week; its choices are valued as they were when the log began."
    )
    return Table("Click rate", ["campaign", "live", *names, "effective sample"], rows, note)
