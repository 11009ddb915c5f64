"""Policies that always show the same ad in a place: what any model's decisions must be worth more than."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from liftloop.decisions.candidates import Chunk
from liftloop.evaluation.logged_candidates import LoggedCandidates
from liftloop.stats.columns import Floats

FEW_ADS = 10  # of a place: with more, the values of single ones are not kept


def fixed_columns(candidates: LoggedCandidates, chunk: Chunk, values: Floats) -> Mapping[str, object]:
    """Columns of decisions, by impression of the chunk, about policies without a model.

    Args:
        candidates: whose `ads` have an `earnings_rank`.
        values: what the model expects of each candidate.

    Returns:
        `fixed_ad_id`: of the competing ads the one with the highest rank; `model_fixed_reward`: what the model expects
        of it; `model_rewards`: of each ad of the place, in the order of `ads`, NaN where it does not compete, and None
        for a place with more than `FEW_ADS`.
    """
    rank = candidates.ads["earnings_rank"].to_numpy()[chunk.ad]
    is_fixed = rank == chunk.spread(np.maximum.reduceat(rank, chunk.starts))  # one of each impression: ranks differ
    return {
        "fixed_ad_id": candidates.ads["ad_id"].to_numpy()[chunk.ad[is_fixed]],
        "model_fixed_reward": values[is_fixed],
        "model_rewards": _of_each_ad(candidates, chunk, values),
    }


def _of_each_ad(candidates: LoggedCandidates, chunk: Chunk, values: Floats) -> list[Floats | None]:
    first, count = candidates.first_ad, candidates.ad_count
    is_of_few = count[chunk.owner] <= FEW_ADS
    owner, ad = chunk.owner[is_of_few], chunk.ad[is_of_few]
    table = np.full((chunk.last - chunk.first, FEW_ADS), np.nan)
    table[owner - chunk.first, ad - first[owner]] = values[is_of_few]
    counts = count[chunk.first : chunk.last].tolist()
    return [row[:ads] if ads <= FEW_ADS else None for row, ads in zip(table, counts, strict=True)]


def best_fixed(decisions: pd.DataFrame) -> pd.DataFrame:
    """The decisions of the policy that always shows, of the competing ads of a place, the one that earned most."""
    return always(decisions, decisions["fixed_ad_id"], decisions["model_fixed_reward"])


def always(decisions: pd.DataFrame, ad_id: "pd.Series[str] | str", model_reward: "pd.Series[float]") -> pd.DataFrame:
    """Decisions that always show these ads; `model_reward` is what the model expects of them."""
    probability = (decisions["ad_id"] == ad_id).astype(np.float64)
    shown = {"chosen_ad_id": ad_id, "target_probability": probability, "weight": probability / decisions["propensity"]}
    return decisions.assign(**shown, model_target_reward=model_reward)


def earning_impressions(decisions: pd.DataFrame) -> int:
    """How many impressions that were logged with an ad of these decisions earned something."""
    return int(((decisions["target_probability"] > 0) & (decisions["reward"] > 0)).sum())
