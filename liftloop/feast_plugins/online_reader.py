"""Reads online features for serving: directly from Redis or the embedded store, without Feast and its registry.

Both stores behave alike: an unknown key, an expired row and a value never written are all missing (None). Numbers and
text are as Feast returns them; a boolean is 0 or 1, a time is in seconds since 1970.
"""

import sqlite3
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import mmh3
from redis import Redis

from liftloop.feast_plugins.wire_format import key_prefix, key_value, read_time, read_value

KEYS_PER_QUERY = 1_000  # SQLite limits the number of parameters

Key = str | int | tuple[str | int, ...]
Values = tuple[Any, ...]
StoredRow = tuple[int, Values]  # event time in microseconds since 1970, and values


@dataclass(frozen=True)
class ViewSchema:
    """A Feast view as a reader needs it."""

    name: str
    join_keys: tuple[str, ...]
    features: tuple[str, ...]
    ttl: timedelta  # zero: values never expire

    def entity_key(self, key: Key) -> bytes:
        """Feast's serialization 3 of a key: text or an INT64, or a tuple with one for each of `join_keys`."""
        values = key if isinstance(key, tuple) else (key,)
        ordered = sorted(zip(self.join_keys, values, strict=True))
        return self._key_prefix + b"".join(key_value(value) for _, value in ordered)

    @cached_property
    def _key_prefix(self) -> bytes:
        return key_prefix(self.join_keys)

    @cached_property
    def redis_fields(self) -> tuple[bytes, ...]:
        """The fields of a Redis hash that hold the event time and the features."""
        hashes = (mmh3.hash(f"{self.name}:{feature}", signed=False) for feature in self.features)
        return (f"_ts:{self.name}".encode(), *(struct.pack("<I", each) for each in hashes))


@dataclass(frozen=True)
class FeatureRequest:
    """Keys of one view, and the time to read their features at: one for all keys, or one per key."""

    view: ViewSchema
    keys: Sequence[Key]
    now_us: int | Sequence[int]  # microseconds since 1970


class OnlineReader(ABC):
    """Reads several views at once. Not thread-safe: open one reader per thread."""

    def read(self, *requests: FeatureRequest) -> list[list[Values]]:
        """For each request the values of its keys, in the order of the view's features; None where missing."""
        keys = [[each.view.entity_key(key) for key in each.keys] for each in requests]
        found = self._fetch([(each.view, list(dict.fromkeys(some))) for each, some in zip(requests, keys, strict=True)])
        return [_alive(*part) for part in zip(requests, keys, found, strict=True)]

    @abstractmethod
    def _fetch(self, wanted: list[tuple[ViewSchema, list[bytes]]]) -> list[dict[bytes, StoredRow]]:
        """The stored rows of these keys of each view."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RedisReader(OnlineReader):
    """Reads the hashes of Feast's Redis store, all in one round trip."""

    def __init__(self, client: Redis, project: str) -> None:
        self._client, self._project = client, project.encode()

    def _fetch(self, wanted: list[tuple[ViewSchema, list[bytes]]]) -> list[dict[bytes, StoredRow]]:
        pipeline = self._client.pipeline(transaction=False)
        for view, keys in wanted:
            for key in keys:
                pipeline.execute_command("HMGET", key + self._project, *view.redis_fields)  # type: ignore[no-untyped-call]
        answers = iter(pipeline.execute())
        return [
            {key: _decoded(answer) for key, answer in zip(keys, answers, strict=False) if answer[0] is not None}
            for _, keys in wanted
        ]

    def close(self) -> None:
        self._client.close()


class SqliteReader(OnlineReader):
    """Reads the wide rows of `WideSqliteOnlineStore`.

    Raises:
        LookupError: the store does not exist, or lacks a view or a feature.
    """

    def __init__(self, path: Path, project: str) -> None:
        self._project, self._path = project, path
        try:
            self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        except sqlite3.OperationalError as error:
            raise self._lacking(error) from error

    def _fetch(self, wanted: list[tuple[ViewSchema, list[bytes]]]) -> list[dict[bytes, StoredRow]]:
        try:
            return [
                stored_rows(self._connection, quoted(f"{self._project}_{view.name}"), view.features, keys)
                for view, keys in wanted
            ]
        except sqlite3.OperationalError as error:
            raise self._lacking(error) from error

    def _lacking(self, error: sqlite3.OperationalError) -> LookupError:
        return LookupError(f"online store {self._path}: {error}. Run `feast apply` and materialize the views.")

    def close(self) -> None:
        self._connection.close()


def stored_rows(
    connection: sqlite3.Connection, table: str, features: Iterable[str], keys: list[bytes]
) -> dict[bytes, StoredRow]:
    """The rows of these keys in a table of wide rows, whose name is already quoted."""
    # Without the table's name SQLite would read an unknown column as a string.
    columns = ", ".join(f"stored.{quoted(name)}" for name in ("_key", "_event_us", *features))
    found: dict[bytes, StoredRow] = {}
    for start in range(0, len(keys), KEYS_PER_QUERY):
        some = keys[start : start + KEYS_PER_QUERY]
        places = ", ".join("?" * len(some))
        query = f"SELECT {columns} FROM {table} AS stored WHERE stored._key IN ({places})"
        found.update((row[0], (row[1], row[2:])) for row in connection.execute(query, some))
    return found


def quoted(name: str) -> str:
    """A column or table name, safe to place in SQL."""
    return '"' + name.replace('"', '""') + '"'


def is_alive(event_us: int, now_us: int, ttl: timedelta | None) -> bool:
    """Whether a row has not expired: it is valid up to and including its TTL, and forever if that is zero."""
    return not ttl or now_us - event_us <= ttl // timedelta(microseconds=1)


def _alive(request: FeatureRequest, keys: list[bytes], found: dict[bytes, StoredRow]) -> list[Values]:
    missing = (None,) * len(request.view.features)
    times = [request.now_us] * len(keys) if isinstance(request.now_us, int) else request.now_us
    rows = ((found.get(key), now_us) for key, now_us in zip(keys, times, strict=True))
    return [row[1] if row and is_alive(row[0], now_us, request.view.ttl) else missing for row, now_us in rows]


def _decoded(answer: list[bytes | None]) -> StoredRow:
    return read_time(answer[0] or b""), tuple(map(read_value, answer[1:]))
