"""Files of the lake, one Parquet file per landed object and date, and files of quarantine."""

from pathlib import Path

import duckdb

from liftloop.contract.contract import Contract
from liftloop.lake.known_keys import create_known
from liftloop.lake.lake import Lake
from liftloop.lake.landed import QUARANTINED_ROWS, Landed, landed_file_of, object_id_in
from liftloop.storage.duckdb import literal, quoted
from liftloop.storage.keys import impressions_prefix, quarantine_prefix
from liftloop.storage.store import Listed, Store

_DUPLICATE = "duplicate of an impression that is already counted"


def mark_duplicates(connection: duckdb.DuckDBPyConnection, lake: Lake, landed: Landed, object_ids: list[str]) -> None:
    """Give a reason to every good row whose key an earlier landed row has, in the lake or in these objects.

    Creates the table `known`: keys of these rows in the lake, with `place` in the order of landing and `filename`.
    """
    keys = ", ".join(map(quoted, lake.contract.deduplicate_by))
    ranks = ", ".join(f"({literal(each)}, {landed.places[landed_file_of(each)]})" for each in object_ids)
    connection.execute(f"CREATE TEMP TABLE ranks AS SELECT * FROM (VALUES {ranks}) AS t(object_id, rank)")
    create_known(connection, lake.store, lake.contract, _current_files(lake, landed, object_ids))
    connection.execute(f"""
        UPDATE impressions SET reasons = [{literal(_DUPLICATE)}], raw = to_json(impressions)::VARCHAR
        WHERE rowid IN (
            SELECT impressions.rowid FROM impressions JOIN ranks USING (object_id) LEFT JOIN known USING ({keys})
            WHERE len(reasons) = 0
            QUALIFY known.place < rank OR row_number() OVER (PARTITION BY {keys} ORDER BY rank, impressions.rowid) > 1
        )
    """)


def _current_files(lake: Lake, landed: Landed, object_ids: list[str]) -> dict[Listed, int]:
    """Each file of the lake and its place in landing order, without these objects and objects due for re-reading."""
    places, ours = landed.places, {landed_file_of(each) for each in object_ids}

    def place(item: Listed) -> int | None:
        file = landed_file_of(object_id_in(item.key))
        if file not in places:
            return -1  # no longer in landing, and so the oldest
        return places[file] if file not in ours and object_id_in(item.key) in landed.by_id else None

    return {item: found for item in lake.files if (found := place(item)) is not None}


def superseded_files(connection: duckdb.DuckDBPyConnection, lake: Lake) -> list[str]:
    """The lake's files of objects that hold a key of a good row that landed before them; after `mark_duplicates`."""
    keys = ", ".join(map(quoted, lake.contract.deduplicate_by))
    found = connection.execute(f"""
        SELECT DISTINCT known.filename FROM impressions JOIN ranks USING (object_id) JOIN known USING ({keys})
        WHERE len(reasons) = 0 AND known.place > rank
    """).fetchall()
    ids = {object_id_in(filename) for (filename,) in found}
    return [item.key for item in lake.files if object_id_in(item.key) in ids]


def freed_objects(connection: duckdb.DuckDBPyConnection, lake: Lake, object_ids: list[str]) -> set[str]:
    """The objects with duplicates of rows that an earlier version of these objects had and the new one has not."""
    keys, ours = ", ".join(map(quoted, lake.contract.deduplicate_by)), {landed_file_of(each) for each in object_ids}
    former = [item for item in lake.files if landed_file_of(object_id_in(item.key)) in ours]
    good = f"SELECT {keys} FROM impressions JOIN ranks USING (object_id) WHERE len(reasons) = 0"
    return duplicates_of(connection, lake, former, f"ANTI JOIN ({good}) AS good USING ({keys})")


def duplicates_of(connection: duckdb.DuckDBPyConnection, lake: Lake, files: list[Listed], but: str = "") -> set[str]:
    """The objects with duplicates, in quarantine, of the rows of these files of the lake, but for a join's."""
    if not files or not (rows := quarantined_rows(lake.store, lake.contract.source)):
        return set()
    names, uris = lake.contract.deduplicate_by, [lake.store.uri(item.key) for item in files]
    keys = ", ".join(map(quoted, names))
    connection.execute(
        f"CREATE TEMP TABLE freed AS SELECT {keys} FROM read_parquet({uris}, union_by_name = true) {but}"
    )
    is_freed = "impression_id IN (FROM freed)" if names == ("impression_id",) else "EXISTS (FROM freed)"
    found = connection.execute(f"""
        SELECT DISTINCT filename FROM read_parquet({rows}, filename = true, union_by_name = true)
        WHERE list_contains(reasons, {literal(_DUPLICATE)}) AND {is_freed}
    """).fetchall()
    return {object_id_in(filename) for (filename,) in found}


def quarantined_rows(store: Store, source: str) -> list[str]:
    """URIs of the files of rejected rows, without the copies of landed files beside them."""
    keys = (item.key for item in store.list(quarantine_prefix(source)))
    return [store.uri(key) for key in keys if key.endswith(f"/{QUARANTINED_ROWS}")]


def stage_impressions(connection: duckdb.DuckDBPyConnection, contract: Contract, object_id: str, folder: Path) -> None:
    """Write an object's good rows under `folder` with their keys in the lake; the same rows give the same bytes."""
    good = f"FROM impressions WHERE object_id = {literal(object_id)} AND len(reasons) = 0"
    columns = ", ".join(map(quoted, contract.column_types))
    for (date,) in connection.execute(f"SELECT DISTINCT event_timestamp::DATE {good}").fetchall():
        path = folder / impressions_prefix(contract.source) / f"date={date}" / f"{object_id}.parquet"
        on_date = f"SELECT {columns} {good} AND event_timestamp::DATE = DATE '{date}'"
        write_parquet(connection, f"{on_date} ORDER BY event_timestamp, impression_id", path)


def stage_quarantine(connection: duckdb.DuckDBPyConnection, contract: Contract, object_id: str, folder: Path) -> None:
    """Write an object's bad rows under `folder`: line (of unreadable lines only), impression_id, reasons[], raw."""
    rows = f"""
        SELECT NULL::BIGINT AS line, impression_id, reasons, raw FROM impressions
        WHERE object_id = {literal(object_id)} AND len(reasons) > 0
        UNION ALL SELECT line, NULL, [reason], raw FROM unread WHERE object_id = {literal(object_id)}
    """
    if connection.execute(f"SELECT count(*) FROM ({rows})").fetchone() != (0,):
        path = folder / quarantine_prefix(contract.source) / object_id / QUARANTINED_ROWS
        write_parquet(connection, f"{rows} ORDER BY line, raw, reasons", path)


def write_parquet(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    """Write the rows of a query to a local file in the format of lake and quarantine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection.execute(f"COPY ({query}) TO {literal(path)} (FORMAT parquet, COMPRESSION zstd)")
