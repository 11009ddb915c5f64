"""Files of the lake, one Parquet file per landed object and date, and files of quarantine."""

from pathlib import Path

import duckdb

from liftloop.contract.contract import Contract
from liftloop.lake.known_keys import create_known
from liftloop.lake.lake import Lake
from liftloop.storage.duckdb import literal, quoted
from liftloop.storage.hashing import fingerprint_of
from liftloop.storage.keys import impressions_prefix, quarantine_prefix
from liftloop.storage.store import Listed

_FILE_CHARACTERS, _VERSION_CHARACTERS = 16, 8
_DUPLICATE = "duplicate of an impression that is already counted"


def mark_duplicates(connection: duckdb.DuckDBPyConnection, lake: Lake, object_ids: list[str]) -> None:
    """Give a reason to every good row whose key is a duplicate: in the lake, or earlier in these objects (in order)."""
    keys = ", ".join(map(quoted, lake.contract.deduplicate_by))
    ranks = ", ".join(f"({literal(object_id)}, {rank})" for rank, object_id in enumerate(object_ids))
    connection.execute(f"CREATE TEMP TABLE ranks AS SELECT * FROM (VALUES {ranks}) AS t(object_id, rank)")
    create_known(connection, lake.store, lake.contract, _files_without(lake, {*object_ids}))
    connection.execute(f"""
        UPDATE impressions SET reasons = [{literal(_DUPLICATE)}], raw = to_json(impressions)::VARCHAR
        WHERE rowid IN (
            SELECT impressions.rowid FROM impressions JOIN ranks USING (object_id) LEFT JOIN known USING ({keys})
            WHERE len(reasons) = 0
            QUALIFY known.is_known OR row_number() OVER (PARTITION BY {keys} ORDER BY rank, impressions.rowid) > 1
        )
    """)


def _files_without(lake: Lake, object_ids: set[str]) -> list[Listed]:
    """The lake's files except the ones of any version of these landed files."""
    files = {landed_file_of(object_id) for object_id in object_ids}
    return [item for item in lake.files if landed_file_of(object_id_in(item.key)) not in files]


def object_id_of(item: Listed) -> str:
    """A short id for one version of a landed file; the ids of all its versions have the same beginning."""
    return fingerprint_of(item.key)[:_FILE_CHARACTERS] + fingerprint_of(item.etag)[:_VERSION_CHARACTERS]


def landed_file_of(object_id: str) -> str:
    """The beginning that the ids of all versions of a landed file share."""
    return object_id[:_FILE_CHARACTERS]


def object_id_in(key: str) -> str:
    """The id of the landed object that a file of the lake comes from."""
    return Path(key).stem


def stage_impressions(connection: duckdb.DuckDBPyConnection, contract: Contract, object_id: str, folder: Path) -> None:
    """Write an object's good rows under `folder` with their keys in the lake; the same rows give the same bytes."""
    good = f"FROM impressions WHERE object_id = {literal(object_id)} AND len(reasons) = 0"
    columns = ", ".join(map(quoted, contract.column_types))
    for (date,) in connection.execute(f"SELECT DISTINCT event_timestamp::DATE {good}").fetchall():
        path = folder / impressions_prefix(contract.source) / f"date={date}" / f"{object_id}.parquet"
        on_date = f"SELECT {columns} {good} AND event_timestamp::DATE = DATE '{date}'"
        write_parquet(connection, f"{on_date} ORDER BY event_timestamp, impression_id", path)


def stage_quarantine(connection: duckdb.DuckDBPyConnection, contract: Contract, object_id: str, folder: Path) -> None:
    """Write an object's bad rows under `folder`: line (of unreadable lines only), reasons[] and the row as landed."""
    rows = f"""
        SELECT NULL::BIGINT AS line, reasons, raw FROM impressions
        WHERE object_id = {literal(object_id)} AND len(reasons) > 0
        UNION ALL SELECT line, [reason], raw FROM unread WHERE object_id = {literal(object_id)}
    """
    if connection.execute(f"SELECT count(*) FROM ({rows})").fetchone() != (0,):
        path = folder / quarantine_prefix(contract.source) / object_id / "rows.parquet"
        write_parquet(connection, f"{rows} ORDER BY line, raw, reasons", path)


def write_parquet(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    """Write the rows of a query to a local file in the format of lake and quarantine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection.execute(f"COPY ({query}) TO {literal(path)} (FORMAT parquet, COMPRESSION zstd)")
