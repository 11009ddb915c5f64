"""The ads that competed for logged impressions, and their expected values by a model, from the lake and Feast."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liftloop.contract.contract import Contract
from liftloop.decisions.candidates import CandidateScorer, Chunk, ad_columns, chunks, is_of_ad
from liftloop.evaluation.eligible_ads import EligibleAds
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


# Ads that could have been shown in a place and were not, with what is known of them from other places.
_ELIGIBLE = """
UNION ALL BY NAME SELECT {group}, others.* FROM (
    SELECT DISTINCT {group}, unnest(from_json(eligible_ads, '["VARCHAR"]')) AS ad_id
    FROM (SELECT DISTINCT {group}, eligible_ads FROM logged WHERE {group} IS NOT NULL)
) AS eligible JOIN ({others}) AS others USING (ad_id) ANTI JOIN ({shown}) AS shown USING ({group}, ad_id)
"""


def competing_ads(store: Store, contract: Contract, keys: Sequence[str]) -> pd.DataFrame:
    """The ads in these Parquet objects: one row per value of `choose_among` and ad, sorted.

    Columns: `choose_among`, the ad's own keys, the context about the ad in its latest row, and `first_shown` and
    `alive_until` there; these are missing for an ad that was eligible there, by the log, and shown elsewhere alone.
    """
    group = quoted(contract.choose_among)
    names = [name for name in ad_columns(contract) if name != "ad_id"]
    latest = ", ".join(["ad_id", *(f"arg_max({quoted(name)}, event_timestamp) AS {quoted(name)}" for name in names)])
    shown = (
        f"SELECT {group}, {latest}, min(event_timestamp) AS first_shown, {_ALIVE_UNTIL}"
        f" FROM logged WHERE {group} IS NOT NULL GROUP BY {group}, ad_id"
    )
    others = f"SELECT {latest} FROM logged GROUP BY ad_id"
    has_sets = "eligible_ads" in contract.columns
    eligible = _ELIGIBLE.format(group=group, others=others, shown=shown) if has_sets else ""
    uris = [store.uri(key) for key in keys]
    with connect(store.settings) as connection:
        connection.read_parquet(uris, union_by_name=True).create_view("logged")
        return connection.execute(f"{shown} {eligible} ORDER BY {group}, ad_id").df()


@dataclass(frozen=True, eq=False)
class LoggedCandidates:
    """Impressions times their competing ads, as codes for a model, in chunks.

    Those ads compete that could have been shown, as the log says. Where it does not, those that were shown before and
    have not ended; if there are none, all. An ad's features change at whole hours only, so they are joined once per ad
    and hour. The model reads no columns about the pair, which the log has of the logged ad alone.

    `ads` are as `competing_ads` returns them; each of `rows` has at least one.
    """

    store: Store
    contract: Contract
    model: Model
    ads: pd.DataFrame
    rows: pd.DataFrame

    def chunks(self) -> Iterator[Chunk]:
        """All impressions, in chunks of at most `MAX_CHUNK_CANDIDATES` where possible."""
        for chunk in chunks(self.first_ad, self.ad_count, MAX_CHUNK_CANDIDATES):
            yield chunk.where(self._competes(chunk))

    @cached_property
    def eligible(self) -> EligibleAds:
        """The logged sets of ads."""
        none = pd.Series(None, index=self.rows.index, dtype=object)
        has_sets = "eligible_ads" in self.contract.columns
        return EligibleAds(self.rows["eligible_ads"] if has_sets else none, self.ads["ad_id"])

    @cached_property
    def first_ad(self) -> NDArray[np.intp]:
        """The row of the first ad of each impression's place, shape (impressions,); the others follow it."""
        counts = self._ads_by_place.to_numpy()
        return np.asarray((np.cumsum(counts) - counts)[self._place], dtype=np.intp)

    @cached_property
    def ad_count(self) -> NDArray[np.intp]:
        """The number of ads of each impression's place, shape (impressions,)."""
        return np.asarray(self._ads_by_place.to_numpy()[self._place], dtype=np.intp)

    @cached_property
    def _ads_by_place(self) -> "pd.Series[int]":
        return self.ads.groupby(self.contract.choose_among, sort=False).size()

    @cached_property
    def _place(self) -> NDArray[np.intp]:
        return self._ads_by_place.index.get_indexer(pd.Index(self.rows[self.contract.choose_among]))

    def _competes(self, chunk: Chunk) -> NDArray[np.bool_]:
        """Whether a candidate could have been shown, shape (candidates,); true if that is so of none."""
        could = np.where(self.eligible.is_logged[chunk.owner], self.eligible.has(chunk), self._is_alive(chunk))
        return np.asarray(could | (chunk.spread(chunk.sums(could.astype(np.float64))) == 0))

    def _is_alive(self, chunk: Chunk) -> NDArray[np.bool_]:
        """Whether a candidate was shown before and has not ended, shape (candidates,)."""
        now = _instants(self.rows["event_timestamp"])[chunk.owner]
        first, last = (_instants(self.ads[name])[chunk.ad] for name in ("first_shown", "alive_until"))
        return np.asarray((first <= now) & (now <= last))

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
        return self._to_codes(self.candidates.rows)

    @cached_property
    def _ads(self) -> Matrix:
        """As codes, shape (ads * hours, raw columns about the ad)."""
        return self._to_codes(self.candidates.ads_by_hour)[:, self._scorer.is_of_ad]

    def _to_codes(self, rows: pd.DataFrame) -> Matrix:
        """Rows as codes; columns that the rows lack are missing values."""
        return self._encoder.to_codes(rows.reindex(columns=self._encoder.raw_columns))


def _instants(times: "pd.Series[pd.Timestamp]") -> NDArray[np.datetime64]:
    return pd.DatetimeIndex(times).tz_convert(None).to_numpy()
