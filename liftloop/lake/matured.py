"""A span of matured impressions in the lake."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property

import pandas as pd

from liftloop.contract.contract import Contract
from liftloop.lake.lake import Lake
from liftloop.storage.duckdb import connect, quoted
from liftloop.storage.store import Listed, Store

_MICROSECOND = timedelta(microseconds=1)  # the resolution of event times


@dataclass(frozen=True, eq=False)
class Window:
    """Impressions with `since` <= event time < `until`: all, or those in the objects named in `only`."""

    lake: Lake
    since: datetime
    until: datetime
    only: frozenset[str] | None = None

    @property
    def store(self) -> Store:
        return self.lake.store

    @property
    def contract(self) -> Contract:
        return self.lake.contract

    @property
    def last_day(self) -> date:
        return (self.until - _MICROSECOND).date()

    @cached_property
    def keys(self) -> list[str]:
        """The objects that hold the impressions, by day."""
        return self._keys(self.since.date(), self.last_day)

    def keys_since(self, lookback: timedelta) -> list[str]:
        """The objects of the days from `lookback` before the window to its last day."""
        return self._keys((self.since - lookback).date(), self.last_day)

    def count(self) -> tuple[int, int]:
        """Numbers of impressions and of rewards."""
        counted = self._read(f"count(*) AS impressions, coalesce(sum({quoted(self.contract.reward)}), 0) AS rewards")
        return int(counted["impressions"][0]), int(counted["rewards"][0])

    def hours(self) -> list[datetime]:
        """The beginnings of the hours that have impressions, sorted."""
        found = self._read("DISTINCT date_trunc('hour', event_timestamp) AS hour")
        return sorted(found["hour"].dt.tz_convert("UTC").tolist())

    def read(self, columns: list[str], limit: int | None = None) -> pd.DataFrame:
        """These columns, sorted by event time: all impressions, or a fixed sample of at most `limit`."""
        sampling = f"ORDER BY hash(impression_id), impression_id LIMIT {limit}" if limit else ""
        rows = self._read(", ".join(map(quoted, columns)), sampling)
        return rows.sort_values(["event_timestamp", "impression_id"], ignore_index=True)

    def _read(self, columns: str, sampling: str = "") -> pd.DataFrame:
        span = "event_timestamp >= $since AND event_timestamp < $until"
        uris = [self.store.uri(key) for key in self.keys]
        with connect(self.store.settings) as connection:
            connection.read_parquet(uris, union_by_name=True).create_view("lake")
            times = {"since": self.since, "until": self.until}
            rows = connection.execute(f"SELECT {columns} FROM lake WHERE {span} {sampling}", times).to_arrow_table()
        frame: pd.DataFrame = rows.to_pandas()
        return frame

    def _keys(self, first: date, last: date) -> list[str]:
        files = (item for day, items in sorted(self._by_day.items()) if first <= day <= last for item in items)
        return [item.key for item in files if self.only is None or item.key in self.only]

    @cached_property
    def _by_day(self) -> dict[date, list[Listed]]:
        return self.lake.by_day()


def matured_window(store: Store, contract: Contract, since: datetime | None) -> Window | None:
    """Impressions matured since then, or the contract's hold-out span if `since` is None; None if there are none."""
    lake = Lake(store, contract)
    as_of = lake.newest_event()
    if as_of is None:
        return None
    until = as_of - contract.maturity + _MICROSECOND
    window = Window(lake, since or until - contract.split.holdout, until)
    return window if window.since < window.until and window.keys else None
