"""Which ads compete for an impression, and what a model expects of each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liftloop.contract.contract import Contract
from liftloop.features.lookup import historical_features
from liftloop.features.names import entity_name, feature_columns
from liftloop.model.encoder import Encoder, Matrix
from liftloop.model.model import Model, uncalibrated
from liftloop.stats.columns import Floats
from liftloop.storage.duckdb import connect, quoted
from liftloop.storage.store import Store

CHUNK_EXPANDED_ROWS = 250_000  # impressions times ads at a time, so that memory stays small

_AD_KEYS = ("ad_id", "campaign_id", "advertiser_id")  # what an ad brings with it
_HALF_HOUR = pd.Timedelta(minutes=30)


def competing_ads(store: Store, contract: Contract, keys: Sequence[str]) -> pd.DataFrame:
    """The ads seen in these Parquet objects: one row per value of `choose_among` and ad, sorted.

    Columns: `choose_among`, the ad's own keys, and the context about the ad as its latest row had it.
    """
    group = quoted(contract.choose_among)
    brought = [name for name in _ad_columns(contract) if name != "ad_id"]
    latest = [f"arg_max({quoted(name)}, event_timestamp) AS {quoted(name)}" for name in brought]
    columns = ", ".join([group, "ad_id", *latest])
    uris = [store.uri(key) for key in keys]
    with connect(store.settings) as connection:
        connection.read_parquet(uris, union_by_name=True).create_view("seen")
        query = f"SELECT {columns} FROM seen WHERE {group} IS NOT NULL GROUP BY {group}, ad_id ORDER BY {group}, ad_id"
        return connection.execute(query).df()


@dataclass(frozen=True)
class Chunk:
    """Impressions first:last times their competing ads, flat: the ads of one impression stand together."""

    first: int
    last: int
    counts: NDArray[np.intp]  # competing ads, per impression
    owner: NDArray[np.intp]  # impression, per expanded row
    ad: NDArray[np.intp]  # row of the competing ads, per expanded row

    @cached_property
    def starts(self) -> NDArray[np.intp]:
        return np.cumsum(self.counts) - self.counts

    def sums(self, values: Floats) -> Floats:
        """The sum over each impression's ads."""
        return np.asarray(np.add.reduceat(values, self.starts))

    def spread(self, values: NDArray[np.generic]) -> Floats:
        """One value per impression, repeated for each of its ads."""
        return np.repeat(np.asarray(values, dtype=np.float64), self.counts)


@dataclass(frozen=True, eq=False)
class Competition:
    """Impressions times their competing ads, as a model reads them, never all of it at once.

    Impressions and ads are coded apart and put together as numbers; then the model's columns are made of those, as some
    are of both. An ad's features change at whole hours only, so they are joined once per ad and hour. No decision may
    see which ad was logged: what is about the pair is missing.

    `ads` are as `competing_ads` returns them; there are some for every one of `rows`.
    """

    store: Store
    contract: Contract
    model: Model
    ads: pd.DataFrame
    rows: pd.DataFrame

    def chunks(self) -> list[Chunk]:
        pieces = np.unique(self._counts.cumsum() // CHUNK_EXPANDED_ROWS, return_index=True)[1].tolist()
        return [self._chunk(first, last) for first, last in zip(pieces, [*pieces[1:], len(self.rows)], strict=True)]

    def score(self, chunk: Chunk) -> Floats:
        """P(reward) of every competing ad, shape (expanded rows,)."""
        coded = self._impressions[chunk.owner]
        coded[:, self._is_of_ad] = self._ads_by_hour[chunk.ad * len(self._hours) + self._hour[chunk.owner]]
        coded[:, self._is_recency] += self._seconds_past_half[chunk.owner, None]
        encoded = pd.DataFrame(self._encoder.derive(coded), columns=self._encoder.columns)
        return self.model.spec.calibration.apply(uncalibrated(self.model.booster, encoded))

    @property
    def _encoder(self) -> Encoder:
        return self.model.spec.encoder

    @cached_property
    def _groups(self) -> "pd.Series[int]":
        """How many ads compete, by value of `choose_among`, in the order of `ads`."""
        return self.ads.groupby(self.contract.choose_among, sort=False).size()

    @cached_property
    def _group(self) -> NDArray[np.intp]:
        return np.asarray(self._groups.index.get_indexer(pd.Index(self.rows[self.contract.choose_among])))

    @cached_property
    def _counts(self) -> NDArray[np.intp]:
        return np.asarray(self._groups.to_numpy(dtype=np.intp)[self._group])

    def _chunk(self, first: int, last: int) -> Chunk:
        counts = self._counts[first:last]
        position = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        first_ad = (self._groups.cumsum() - self._groups).to_numpy(dtype=np.intp)[self._group[first:last]]
        owner = np.repeat(np.arange(first, last), counts)
        return Chunk(first, last, counts, owner, np.repeat(first_ad, counts) + position)

    @cached_property
    def _is_of_ad(self) -> NDArray[np.bool_]:
        columns = _ad_columns(self.contract)
        prefixes = tuple(f"{entity_name(key)}_" for key in self.contract.keys if key in columns)
        features = [name for name in feature_columns(self.contract) if name.startswith(prefixes)]
        return np.isin(self._encoder.raw_columns, [*columns, *features])

    @cached_property
    def _is_recency(self) -> NDArray[np.bool_]:
        return np.asarray(self._is_of_ad & ["_seconds_since_" in name for name in self._encoder.raw_columns])

    @cached_property
    def _impressions(self) -> Matrix:
        """Coded, shape (impressions, raw columns)."""
        pairs = [name for name, column in self.contract.context.items() if column.about == "pair"]
        return self._code(self.rows.drop(columns=pairs))

    @cached_property
    def _ads_by_hour(self) -> Matrix:
        """Coded, shape (ads * hours, raw columns about the ad)."""
        crossed = self.ads.merge(pd.DataFrame({"event_timestamp": self._hours + _HALF_HOUR}), how="cross")
        nobody = {key: None for key in self.contract.keys if key not in crossed}
        features = historical_features(self.store, self.contract, crossed.assign(**nobody))
        return self._code(features)[:, self._is_of_ad]

    def _code(self, rows: pd.DataFrame) -> Matrix:
        """Coded, with columns that the rows lack as missing values."""
        return self._encoder.code(rows.reindex(columns=self._encoder.raw_columns))

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
    def _seconds_past_half(self) -> NDArray[np.float32]:
        past = pd.DatetimeIndex(self.rows["event_timestamp"]) - self._full_hour - _HALF_HOUR
        return past.total_seconds().to_numpy(dtype=np.float32)


def _ad_columns(contract: Contract) -> list[str]:
    """What another ad would change, but for its features."""
    keys = [key for key in _AD_KEYS if key in contract.columns and key != contract.choose_among]
    return [*keys, *(name for name, column in contract.context.items() if column.about == "ad")]
