"""Outcomes that land in files of their own: kept beside the impressions, and joined to them when these are read.

An outcome may land before its impression or after it. One that lands later has the files of the impressions it touches
read again, so the lake does not depend on the order of landing.
"""

from collections.abc import Iterable

from liftloop.contract.contract import Contract
from liftloop.lake.impressions import quarantined_rows, write_parquet
from liftloop.lake.lake import Lake
from liftloop.lake.landed import landed_file_of, object_id_in
from liftloop.lake.ledger import Entry, blocked
from liftloop.landing.batch import Batch
from liftloop.landing.rules import reasons_of
from liftloop.storage.duckdb import connect, literal, quoted
from liftloop.storage.keys import outcomes_prefix
from liftloop.storage.store import Listed, ObjectRef, Store, references

_MONEY = "DECIMAL(38, 9)"  # exact: a sum of floats would depend on the order of addition
_VALUES = "click, conversion, revenue, cost, outcome_timestamp"


def list_outcomes(store: Store, source: str) -> list[Listed]:
    """The files of outcomes that are ingested."""
    return [*store.list(outcomes_prefix(source))]


def _places(batch: Batch) -> dict[str, int]:
    """The files of outcomes that count, each with its place in the order of landing.

    Those of landed files that are gone stay; those of landed files that the contract no longer names do not.
    """
    landed = {landed_file_of(batch.landed.object_id(item)) for item in batch.landed.listed.values()}
    keys = {item.key: object_id_in(item.key) for item in list_outcomes(batch.store, batch.contract.source)}
    current = {key for key, each in keys.items() if each in batch.landed.by_id or landed_file_of(each) not in landed}
    return {key: batch.landed.places.get(landed_file_of(keys[key]), -1) for key in current}


def _rows(batch: Batch, places: dict[str, int]) -> str:
    """The rows of these files in SQL, each with `key` and `place` of its file."""
    if not places:
        none = ", ".join(f"NULL AS {name}" for name in ("kind", "event_id", "place", "key"))
        return f"(SELECT impression_id, {_VALUES}, {none} FROM impressions WHERE false)"
    listed = ", ".join(f"({literal(batch.store.uri(key))}, {literal(key)}, {at})" for key, at in sorted(places.items()))
    files = f"read_parquet({[batch.store.uri(key) for key in sorted(places)]}, filename = true)"
    return f"({files} JOIN (VALUES {listed}) AS files(filename, key, place) USING (filename))"


def stage_outcomes(batch: Batch, object_id: str) -> None:
    """Write an object's good rows with their key in the lake; the same rows give the same bytes."""
    path = batch.folder / "out" / object_id / outcomes_prefix(batch.contract.source) / f"{object_id}.parquet"
    kind = batch.landed.outcome_files_of(batch.landed.by_id[object_id].key)
    event_id = "event_id" if "event_id" in batch.contract.context else "NULL::VARCHAR AS event_id"
    columns = f"impression_id, {literal(kind)} AS kind, {event_id}, {_VALUES}"
    good = f"FROM impressions WHERE object_id = {literal(object_id)} AND len(reasons) = 0"
    write_parquet(batch.connection, f"SELECT {columns} {good} ORDER BY ALL", path)


def touched_objects(batch: Batch, object_ids: list[str]) -> set[str]:
    """The objects with impressions, in the lake or in quarantine, that these outcomes or their former versions are of.

    Objects that are held are among them: outcomes may be what they lack.
    """
    lake, store = batch.lake, batch.store
    ours = {landed_file_of(each) for each in object_ids}
    outcomes = list_outcomes(store, lake.contract.source)
    former = [store.uri(item.key) for item in outcomes if landed_file_of(object_id_in(item.key)) in ours]
    ids = "SELECT impression_id FROM impressions WHERE len(reasons) = 0"
    if former:
        ids += f" UNION ALL SELECT impression_id FROM read_parquet({former})"
    found: set[str] = set()
    for uris in filter(None, (lake.uris, quarantined_rows(store, lake.contract.source))):
        files = f"read_parquet({uris}, filename = true, union_by_name = true)"
        query = f"SELECT DISTINCT filename FROM {files} SEMI JOIN ({ids}) AS ids USING (impression_id)"
        found |= {object_id_in(name) for (name,) in batch.connection.execute(query).fetchall()}
    return found | {entry.object_id for entry in blocked(lake) if entry.status == "held"}


def count_waiting(lake: Lake, entries: Iterable[Entry]) -> int:
    """The impressions that outcomes of these files name and that are not in the lake."""
    listed = {item.key for item in list_outcomes(lake.store, lake.contract.source)}
    outcomes = [lake.store.uri(ref.key) for entry in entries for ref in entry.outputs if ref.key in listed]
    if not outcomes:
        return 0
    query = f"SELECT count(DISTINCT impression_id) FROM read_parquet({outcomes})"
    if lake.uris:
        query += f" ANTI JOIN read_parquet({lake.uris}, union_by_name = true) AS shown USING (impression_id)"
    with connect(lake.store.settings) as connection:
        return int(connection.execute(query).fetchall()[0][0])


def join_outcomes(batch: Batch) -> dict[str, tuple[ObjectRef, ...]]:
    """Give every impression its outcomes, then apply the rules; returns the files of outcomes of each object."""
    connection, contract = batch.connection, batch.contract
    places = _places(batch)
    connection.execute(f"""
        CREATE TEMP TABLE outcomes_found AS
        SELECT impression_id, kind, event_id, {_VALUES}, place, key FROM {_rows(batch, places)}
        SEMI JOIN impressions USING (impression_id)
    """)
    # Of an event that landed again, the last version counts; without an id, equal rows are one event.
    event = f"CASE WHEN event_id IS NULL THEN hash({_VALUES}) END"
    connection.execute(f"""
        CREATE TEMP TABLE outcomes_joined AS
        SELECT impression_id, max(click) AS click, max(conversion) AS conversion,
            sum(revenue::{_MONEY})::DOUBLE AS revenue, sum(cost::{_MONEY})::DOUBLE AS cost,
            max(outcome_timestamp) AS outcome_timestamp
        FROM (FROM outcomes_found QUALIFY row_number() OVER (
            PARTITION BY impression_id, kind, event_id, {event} ORDER BY place DESC, {_VALUES}) = 1)
        GROUP BY impression_id
    """)
    values = ", ".join(f"{quoted(name)} = {value}" for name, value in _joined(contract).items())
    connection.execute(f"""
        UPDATE impressions SET {values} FROM (
            SELECT impressions.rowid AS place, joined.* FROM impressions
            LEFT JOIN outcomes_joined AS joined USING (impression_id)
        ) AS joined WHERE impressions.rowid = joined.place
    """)
    connection.execute(f"UPDATE impressions SET reasons = list_concat(reasons, {reasons_of(batch.rules)})")
    return _files_of_objects(batch)


def _joined(contract: Contract) -> dict[str, str]:
    """By column, the value of an impression with or without outcomes, in SQL."""
    ours: set[str] = {name for files in contract.outcome_files.values() for name in files.columns}
    values = {name: f"coalesce(joined.{name}, 0)" for name in sorted(ours - {"impression_id", "outcome_timestamp"})}
    horizon, delay = contract.outcome.horizon.total_seconds(), contract.outcome.delay.total_seconds()
    later = f"CASE WHEN joined.impression_id IS NULL THEN {horizon} ELSE {delay} END"
    known = "greatest(impressions.outcome_timestamp, joined.outcome_timestamp)"
    assumed = f"TRY(impressions.event_timestamp + to_seconds({later}))"
    return values | {"outcome_timestamp": f"coalesce({known}, {assumed})"}


def _files_of_objects(batch: Batch) -> dict[str, tuple[ObjectRef, ...]]:
    pairs = batch.connection.execute("""
        SELECT DISTINCT object_id, key FROM impressions JOIN outcomes_found USING (impression_id) ORDER BY ALL
    """).fetchall()
    known = {ref.key: ref for ref in references(batch.store, {key for _, key in pairs})}
    found: dict[str, tuple[ObjectRef, ...]] = {}
    for object_id, key in pairs:
        found[object_id] = (*found.get(object_id, ()), known[key])
    return found
