"""The online store: for each key the latest features, written by Feast."""

import json
from contextlib import redirect_stdout
from datetime import datetime
from io import StringIO
from time import perf_counter

from feast import FeatureStore

from liftloop.contract import Contract
from liftloop.duck import connect, literal, quoted
from liftloop.features.feast_repo import apply_features
from liftloop.features.lookup import materialized_key
from liftloop.features.names import view_name
from liftloop.features.partitions import objects_by_day
from liftloop.features.tables import TIME_TO_LIVE, features_pattern, features_prefix
from liftloop.lake import newest_event
from liftloop.runs import Step
from liftloop.store import Listed, Store, fingerprint_of, references

_STEP = "update_online_store"


def update_online_store(store: Store, contract: Contract) -> Step:
    """Write every key's newest features, as of the newest impression, unless the online store has just those.

    Feast's incremental window would miss late arrivals, so the whole span of the TTL is looked through each time.
    """
    started = perf_counter()
    as_of = newest_event(store, contract.source)
    if as_of is None:
        return Step(name=_STEP, is_reused=True)
    feast = apply_features(store, [contract])
    tables = _recent_tables(store, contract, as_of)
    record = materialized_key(contract.source)
    fingerprint = fingerprint_of(feast.config.online_store, as_of, *((table.key, table.etag) for table in tables))
    if store.fingerprint(record) == fingerprint and _is_filled(feast, contract):
        return Step(name=_STEP, metrics=json.loads(store.get(record)) | _seconds_since(started), is_reused=True)
    _materialize(feast, contract, as_of)
    metrics = {"as_of": as_of.isoformat(), "keys_online": _count_keys(store, contract, as_of)}
    written = store.put(record, json.dumps(metrics).encode(), fingerprint=fingerprint)
    read = references(store, (table.key for table in tables))
    return Step(name=_STEP, inputs=read, outputs=(written,), metrics=metrics | _seconds_since(started))


def _recent_tables(store: Store, contract: Contract, as_of: datetime) -> list[Listed]:
    """The partitions, in order, that hold the newest row of each key alive at `as_of`."""
    first, last = (as_of - TIME_TO_LIVE).date(), as_of.date()
    listed = (objects_by_day(store, features_prefix(contract.source, key)) for key in contract.keys)
    return [file for days in listed for day, files in sorted(days.items()) if first <= day <= last for file in files]


def _materialize(feast: FeatureStore, contract: Contract, as_of: datetime) -> None:
    views = [view_name(contract, key) for key in contract.keys]
    with redirect_stdout(StringIO()):  # it prints as it goes
        feast.materialize(as_of - TIME_TO_LIVE, as_of, feature_views=views)


def _is_filled(feast: FeatureStore, contract: Contract) -> bool:
    """Whether this registry's online store was ever written: the record in the bucket may be of another's."""
    views = [feast.get_feature_view(view_name(contract, key)) for key in contract.keys]
    return all(view.most_recent_end_time is not None for view in views)


def _count_keys(store: Store, contract: Contract, as_of: datetime) -> dict[str, int]:
    """How many values of each key have features alive at `as_of`."""
    span = f"event_timestamp BETWEEN {_time(as_of - TIME_TO_LIVE)} AND {_time(as_of)}"
    counts: dict[str, int] = {}
    with connect(store.settings) as connection:
        for key in contract.keys:
            table = connection.read_parquet(store.uri(features_pattern(contract.source, key)))
            row = table.filter(span).aggregate(f"count(DISTINCT {quoted(key)})").fetchone()
            counts[key] = row[0] if row else 0
    return counts


def _time(moment: datetime) -> str:
    return f"{literal(moment.isoformat())}::TIMESTAMPTZ"


def _seconds_since(started: float) -> dict[str, float]:
    return {"seconds": round(perf_counter() - started, 3)}
