"""The ads that compete for each request, and the model's prediction for each of them.

Requests and ads are encoded separately and combined as codes, from which the model's columns are then computed: some of
these depend on both.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from liftloop.contract.contract import Contract
from liftloop.features.definitions import entity_name, feature_columns
from liftloop.model.encoder import Encoder, Matrix
from liftloop.model.model import Model
from liftloop.stats.columns import Floats

_AD_KEYS = ("ad_id", "campaign_id", "advertiser_id")  # columns that belong to an ad


@dataclass(frozen=True)
class Chunk:
    """Requests first:last with their candidates in flat arrays, where the candidates of one request are adjacent."""

    first: int
    last: int
    counts: NDArray[np.intp]  # candidates, per request
    owner: NDArray[np.intp]  # request, per candidate
    ad: NDArray[np.intp]  # row of the ads, per candidate

    @cached_property
    def starts(self) -> NDArray[np.intp]:
        return np.cumsum(self.counts) - self.counts

    def where(self, is_kept: NDArray[np.bool_]) -> "Chunk":
        """Without the other candidates; `is_kept` has shape (candidates,) and keeps at least one of each request."""
        counts = np.add.reduceat(is_kept, self.starts, dtype=np.intp)
        return replace(self, counts=counts, owner=self.owner[is_kept], ad=self.ad[is_kept])

    def sums(self, values: Floats) -> Floats:
        """The sum over each request's candidates."""
        return np.asarray(np.add.reduceat(values, self.starts))

    def spread(self, values: NDArray[np.generic]) -> Floats:
        """One value per request, repeated for each of its candidates."""
        return np.repeat(np.asarray(values, dtype=np.float64), self.counts)


def chunks(first_ads: NDArray[np.intp], counts: NDArray[np.intp], max_candidates: int) -> Iterator[Chunk]:
    """All requests in chunks of about `max_candidates` candidates, to bound memory.

    Args:
        first_ads: row of the first candidate, per request; the others follow it.
        counts: number of candidates, per request; at least one each.
    """
    firsts = np.unique(counts.cumsum() // max_candidates, return_index=True)[1].tolist()
    for first, last in zip(firsts, [*firsts[1:], len(counts)], strict=True):
        yield _chunk(first_ads[first:last], counts[first:last], first, last)


@dataclass(frozen=True, eq=False)
class CandidateScorer:
    """Predicts rewards of candidates. `is_of_ad`, shape (raw columns,), marks the columns that depend on the ad."""

    model: Model
    is_of_ad: NDArray[np.bool_]

    def score(self, requests: Matrix, ads: Matrix) -> Floats:
        """P(reward), shape (candidates,).

        Args:
            requests: as the encoder's `to_codes` returns them, shape (candidates, raw columns).
            ads: the columns of `is_of_ad` alone, shape (candidates, columns of the ad); they replace the request's.
        """
        codes = requests.copy()
        codes[:, self.is_of_ad] = ads
        return self.model.predict_codes(codes)


def is_of_ad(contract: Contract, encoder: Encoder) -> NDArray[np.bool_]:
    """Which raw columns of an encoder depend on the ad: its keys, context and features; shape (raw columns,)."""
    columns = ad_columns(contract)
    prefixes = tuple(f"{entity_name(key)}_" for key in contract.keys if key in columns)
    features = [name for name in feature_columns(contract) if name.startswith(prefixes)]
    return np.isin(encoder.raw_columns, [*columns, *features])


def pair_columns(contract: Contract, model: Model) -> list[str]:
    """The columns about request and ad together that a model reads: the log has them of the logged ad alone."""
    read = {name for each in (model, model.conversion) if each for name in each.spec.encoder.raw_columns}
    return [name for name, column in contract.context.items() if column.about == "pair" and name in read]


def ad_columns(contract: Contract) -> list[str]:
    """The columns that depend on the ad, without its features."""
    keys = [key for key in _AD_KEYS if key in contract.columns and key != contract.choose_among]
    prices = ["pricing", "bid"] if contract.has_prices else []
    return [*keys, *prices, *(name for name, column in contract.context.items() if column.about == "ad")]


def _chunk(first_ads: NDArray[np.intp], counts: NDArray[np.intp], first: int, last: int) -> Chunk:
    position = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    owner = np.repeat(np.arange(first, last), counts)
    return Chunk(first, last, counts, owner, np.repeat(first_ads, counts) + position)
