"""The ads that competed for logged impressions, and their expected values by a model, from the lake and Feast."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liftloop.contract.contract import Contract
from liftloop.decisions.candidates import CandidateScorer, Chunk, ad_columns, chunks, is_of_ad
from liftloop.features.lookup import historical_features
from liftloop.model.earnings import Terms
from liftloop.model.encoder import Encoder, Matrix
from liftloop.model.model import Model
from liftloop.stats.columns import Floats
from liftloop.storage.duckdb import connect, quoted
from liftloop.storage.store import Store

MAX_CHUNK_CANDIDATES = 250_000  # impressions times ads at a time, to limit memory

_HALF_HOUR = pd.Timedelta(minutes=30)
# An ad counts as ended after three of its mean gaps between two shows in that place, or a day; one show tells no gap.
_ALIVE_UNTIL = """max(event_timestamp) + to_seconds(CASE WHEN count(*) = 1 THEN 7 * 86400 ELSE greatest(86400,
    3 * (epoch(max(event_timestamp)) - epoch(min(event_timestamp))) / (count(*) - 1)
) END) AS alive_until"""


def competing_ads(store: Store, contract: Contract, keys: Sequence[str]) -> pd.DataFrame:
    """The ads in these Parquet objects: one row per value of `choose_among` and ad, sorted.

    Columns: `choose_among`, the ad's own keys, the context about the ad in its latest row, and `first_shown` and
    `alive_until` there.
    """
    group = quoted(contract.choose_among)
    others = [name for name in ad_columns(contract) if name != "ad_id"]
    latest = [f"arg_max({quoted(name)}, event_timestamp) AS {quoted(name)}" for name in others]
    shown = ["min(event_timestamp) AS first_shown", _ALIVE_UNTIL]
    columns = ", ".join([group, "ad_id", *latest, *shown])
    uris = [store.uri(key) for key in keys]
    with connect(store.settings) as connection:
        connection.read_parquet(uris, union_by_name=True).create_view("logged")
        query = (
            f"SELECT {columns} FROM logged WHERE {group} IS NOT NULL GROUP BY {group}, ad_id ORDER BY {group}, ad_id"
        )
        return connection.execute(query).df()


@dataclass(frozen=True, eq=False)
class LoggedCandidates:
    """Impressions times their competing ads, as codes for a model, in chunks.

    The log does not say which ads could have been shown: those compete that were shown before and have not ended; if
    there are none, all. An ad's features change at whole hours only, so they are joined once
    per ad and hour. A decision must not depend on which ad was logged: columns about the pair are missing.

    `ads` are as `competing_ads` returns them; each of `rows` has at least one.
    """

    store: Store
    contract: Contract
    model: Model
    ads: pd.DataFrame
    rows: pd.DataFrame

    def chunks(self) -> Iterator[Chunk]:
        """All impressions, in chunks of at most `MAX_CHUNK_CANDIDATES` where possible."""
        groups = self.ads.groupby(self.contract.choose_among, sort=False).size()
        group = groups.index.get_indexer(pd.Index(self.rows[self.contract.choose_among]))
        counts = np.asarray(groups, dtype=np.intp)
        first_ads = np.cumsum(counts, dtype=np.intp) - counts
        for chunk in chunks(first_ads[group], counts[group], MAX_CHUNK_CANDIDATES):
            yield chunk.where(self._is_alive(chunk))

    def _is_alive(self, chunk: Chunk) -> NDArray[np.bool_]:
        """Whether a candidate was shown before and has not ended, shape (candidates,); true if that is so of none."""
        now = _instants(self.rows["event_timestamp"])[chunk.owner]
        first, last = (_instants(self.ads[name])[chunk.ad] for name in ("first_shown", "alive_until"))
        is_alive = (first <= now) & (now <= last)
        return np.asarray(is_alive | (chunk.spread(chunk.sums(is_alive.astype(np.float64))) == 0))

    def value(self, chunk: Chunk) -> Floats:
        """What each competing ad is expected to be worth, in the unit of the model's objective, shape (candidates,)."""
        probability, *conversion = (each.predict(chunk) for each in self._predictors)
        return self._terms.value(chunk.ad, probability, *conversion)

    @cached_property
    def _predictors(self) -> list["_Predictor"]:
        """Of rewards; then, where the model has one, of conversions."""
        models = [self.model, self.model.conversion] if self.model.conversion else [self.model]
        return [_Predictor(self, each) for each in models]

    @cached_property
    def _terms(self) -> Terms:
        return self.model.spec.earnings.terms(self.ads)

    @cached_property
    def impressions(self) -> pd.DataFrame:
        """Without the columns about the pair."""
        return self.rows.drop(
            columns=[name for name, column in self.contract.context.items() if column.about == "pair"]
        )

    @cached_property
    def ads_by_hour(self) -> pd.DataFrame:
        """The ads with their features at half past each hour, ad by ad."""
        crossed = self.ads.merge(pd.DataFrame({"event_timestamp": self._hours + _HALF_HOUR}), how="cross")
        missing = {key: None for key in self.contract.keys if key not in crossed}
        return historical_features(self.store, self.contract, crossed.assign(**missing))

    def place(self, chunk: Chunk) -> NDArray[np.intp]:
        """The row of `ads_by_hour` of each candidate, shape (candidates,)."""
        return np.asarray(chunk.ad * len(self._hours) + self._hour[chunk.owner])

    @cached_property
    def _full_hour(self) -> pd.DatetimeIndex:
        return pd.DatetimeIndex(self.rows["event_timestamp"]).floor("h")

    @cached_property
    def _hours(self) -> pd.DatetimeIndex:
        return self._full_hour.unique()

    @cached_property
    def _hour(self) -> NDArray[np.intp]:
        return np.asarray(self._hours.get_indexer(self._full_hour))

    @cached_property
    def seconds_past_half(self) -> NDArray[np.float32]:
        """Of each impression after half past its hour, shape (impressions,)."""
        past = pd.DatetimeIndex(self.rows["event_timestamp"]) - self._full_hour - _HALF_HOUR
        return past.total_seconds().to_numpy(dtype=np.float32)


@dataclass(frozen=True, eq=False)
class _Predictor:
    """One probability of the candidates: impressions and ads are encoded once."""

    candidates: LoggedCandidates
    model: Model

    def predict(self, chunk: Chunk) -> Floats:
        """Shape (candidates,)."""
        ads = self._ads[self.candidates.place(chunk)]
        ads[:, self._is_recency] += self.candidates.seconds_past_half[chunk.owner, None]
        return self._scorer.score(self._impressions[chunk.owner], ads)

    @property
    def _encoder(self) -> Encoder:
        return self.model.spec.encoder

    @cached_property
    def _scorer(self) -> CandidateScorer:
        return CandidateScorer(self.model, is_of_ad(self.candidates.contract, self._encoder))

    @cached_property
    def _is_recency(self) -> NDArray[np.bool_]:
        """Whether a column about the ad is a recency, shape (raw columns about the ad,)."""
        return np.array(["_seconds_since_" in name for name in self._encoder.raw_columns])[self._scorer.is_of_ad]

    @cached_property
    def _impressions(self) -> Matrix:
        """As codes, shape (impressions, raw columns)."""
        return self._to_codes(self.candidates.impressions)

    @cached_property
    def _ads(self) -> Matrix:
        """As codes, shape (ads * hours, raw columns about the ad)."""
        return self._to_codes(self.candidates.ads_by_hour)[:, self._scorer.is_of_ad]

    def _to_codes(self, rows: pd.DataFrame) -> Matrix:
        """Rows as codes; columns that the rows lack are missing values."""
        return self._encoder.to_codes(rows.reindex(columns=self._encoder.raw_columns))


def _instants(times: "pd.Series[pd.Timestamp]") -> NDArray[np.datetime64]:
    return pd.DatetimeIndex(times).tz_convert(None).to_numpy()
