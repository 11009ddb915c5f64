"""The lake of one source: the files of its canonical impressions."""

from collections.abc import Iterable
from datetime import date, datetime
from functools import cached_property

from liftloop.contract.contract import Contract
from liftloop.lake.days import by_day
from liftloop.storage.duckdb import connect
from liftloop.storage.hashing import fingerprint_of
from liftloop.storage.keys import impressions_prefix
from liftloop.storage.store import Listed, Store


class Lake:
    """A snapshot: listed once, on first use. Who writes to or deletes from the lake afterwards calls `replace`."""

    def __init__(self, store: Store, contract: Contract) -> None:  # no dataclass: Prefect copies those between tasks
        self.store, self.contract = store, contract

    @property
    def files(self) -> list[Listed]:
        """Sorted by key."""
        return [self._files[key] for key in sorted(self._files)]

    @property
    def uris(self) -> list[str]:
        return [self.store.uri(item.key) for item in self.files]

    @property
    def version(self) -> str:
        """Changes when a file changes, or a part of the contract that features depend on."""
        wanted = self.contract.model_dump_json(
            include={"columns", "keys", "outcome", "outcome_files", "feature_version"}
        )
        return fingerprint_of(wanted, *((item.key, item.etag) for item in self.files))

    def by_day(self) -> dict[date, list[Listed]]:
        return by_day(self.files)

    def newest_files(self) -> list[str]:
        """The keys of the files of the newest date."""
        newest_date = max((key.rsplit("/", 1)[0] for key in self._files), default="")
        return [item.key for item in self.files if item.key.startswith(f"{newest_date}/")]

    def newest_event(self) -> datetime | None:
        """The data's own clock: the newest event time; None while the lake is empty."""
        files = self.newest_files()
        if not files:
            return None
        with connect(self.store.settings) as connection:
            row = connection.read_parquet([*map(self.store.uri, files)]).aggregate("max(event_timestamp)").fetchone()
        return row[0] if row else None

    def replace(self, deleted: Iterable[str], written: Iterable[Listed]) -> None:
        """Update the snapshot after a write to the lake."""
        for key in deleted:
            self._files.pop(key, None)
        self._files.update({item.key: item for item in written})

    @cached_property
    def _files(self) -> dict[str, Listed]:
        prefix = impressions_prefix(self.contract.source)
        return {item.key: item for item in self.store.list(prefix)}
