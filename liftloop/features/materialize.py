"""Fills the online store with the latest features of each key, by Feast."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from datetime import datetime
from io import StringIO
from time import perf_counter

from feast import FeatureStore, FeatureView

from liftloop.contract.contract import Contract
from liftloop.features.definitions import FEAST_PROJECT, TIME_TO_LIVE, view_name
from liftloop.features.feast_repo import apply_features
from liftloop.features.partition_index import Entry, Index
from liftloop.lake.days import by_day
from liftloop.lake.lake import Lake
from liftloop.storage.duckdb import connect, literal, quoted
from liftloop.storage.hashing import fingerprint_of
from liftloop.storage.keys import features_index_key, features_prefix, materialized_key
from liftloop.storage.runs import Step, record
from liftloop.storage.store import Listed, ObjectRef, Store, references

_STEP = "update_online_store"
_LAYOUT = 2  # version of the store's tables; a change fills them again


def update_online_store(store: Store, contract: Contract) -> Step:
    """Write every key's newest features, as of the newest impression, unless the online store has them already.

    Feast's incremental window would miss late arrivals, so the whole TTL is materialized each time. If files were
    removed from the lake since, by a correction or an erasure, the store is emptied first: otherwise rows newer than
    the rebuilt tables would survive.
    """
    lake = Lake(store, contract)
    as_of = lake.newest_event()
    step = _update(lake, as_of) if as_of else Step(name=_STEP, is_reused=True)
    record(step)
    return step


def _update(lake: Lake, as_of: datetime) -> Step:
    store, contract, started = lake.store, lake.contract, perf_counter()
    feast = apply_features(store, [contract])
    tables = _recent_tables(store, contract, as_of)
    recent = [table for each in tables.values() for table in each]
    versions = ((table.key, table.etag) for table in recent)
    fingerprint = fingerprint_of(_LAYOUT, feast.config.online_store, as_of, *versions)
    known = store.head(materialized_key(contract.source))
    is_reused = known is not None and known.fingerprint == fingerprint and _is_filled(feast, contract)
    written = known.ref if known and is_reused else _fill(lake, as_of, feast, tables, fingerprint)
    stored = {name: value for name, value in json.loads(store.get(written.key)).items() if name != "lake"}
    metrics = stored | {"seconds": round(perf_counter() - started, 3)}
    inputs = references(store, (table.key for table in recent))
    return Step(name=_STEP, inputs=inputs, outputs=(written,), metrics=metrics, is_reused=is_reused)


def _fill(
    lake: Lake,
    as_of: datetime,
    feast: FeatureStore,
    tables: Mapping[str, Sequence[Entry]],
    fingerprint: str,
) -> ObjectRef:
    """Update the online store; returns the record of its sources, which is written last."""
    store, contract = lake.store, lake.contract
    key = materialized_key(contract.source)
    if not _known_lake(store, key) <= _versions(lake.files):
        _empty(feast, contract)
    _materialize(feast, contract, as_of)
    first = (as_of - TIME_TO_LIVE - contract.outcome.horizon).date()  # the first day whose impressions can matter
    known = {
        "as_of": as_of.isoformat(),
        "keys_online": _count_keys(store, tables, as_of),
        "lake": sorted(_versions(item for day, files in lake.by_day().items() if day >= first for item in files)),
    }
    return store.put(key, json.dumps(known).encode(), fingerprint=fingerprint)


def _recent_tables(store: Store, contract: Contract, as_of: datetime) -> dict[str, list[Entry]]:
    """By key column: the partitions that can hold a row that is newest for its key and not expired at `as_of`."""
    days = by_day(Index.read(store, features_index_key(contract.source)).entries.values())
    first, last = (as_of - TIME_TO_LIVE).date(), as_of.date()
    recent = [table for day, tables in sorted(days.items()) if first <= day <= last for table in tables]
    prefixes = {key: features_prefix(contract.source, key) for key in contract.keys}
    return {key: [table for table in recent if table.key.startswith(prefix)] for key, prefix in prefixes.items()}


def _known_lake(store: Store, key: str) -> set[str]:
    """The versions of the lake's files from which the online store was last filled."""
    try:
        return {*json.loads(store.get(key)).get("lake", ())}
    except KeyError:
        return set()


def _versions(files: Iterable[Listed]) -> set[str]:
    return {f"{item.key}#{item.etag}" for item in files}


def _empty(feast: FeatureStore, contract: Contract) -> None:
    views = _views(feast, contract)
    feast.provider.update_infra(FEAST_PROJECT, views, views, [], [], partial=True)


def _materialize(feast: FeatureStore, contract: Contract, as_of: datetime) -> None:
    views = [view_name(contract, key) for key in contract.keys]
    with redirect_stdout(StringIO()):  # Feast prints its progress
        feast.materialize(as_of - TIME_TO_LIVE, as_of, feature_views=views)


def _is_filled(feast: FeatureStore, contract: Contract) -> bool:
    """Whether the online store of this registry was ever written; the bucket's record may describe another one."""
    return all(view.most_recent_end_time is not None for view in _views(feast, contract))


def _views(feast: FeatureStore, contract: Contract) -> list[FeatureView]:
    return [feast.get_feature_view(view_name(contract, key)) for key in contract.keys]


def _count_keys(store: Store, tables: Mapping[str, Sequence[Entry]], as_of: datetime) -> dict[str, int]:
    """The number of values of each key with unexpired features at `as_of`."""
    span = f"event_timestamp BETWEEN {_time(as_of - TIME_TO_LIVE)} AND {_time(as_of)}"
    counts: dict[str, int] = {}
    with connect(store.settings) as connection:
        for key, recent in tables.items():
            rows = connection.read_parquet([store.uri(table.key) for table in recent])
            row = rows.filter(span).aggregate(f"count(DISTINCT {quoted(key)})").fetchone()
            counts[key] = row[0] if row else 0
    return counts


def _time(moment: datetime) -> str:
    return f"{literal(moment.isoformat())}::TIMESTAMPTZ"
