"""The lake: canonical impressions by date, one Parquet file for each landed object, and the quarantine beside it."""

from datetime import datetime
from pathlib import Path

import duckdb

from liftloop.contract.contract import Contract
from liftloop.lake.known_keys import create_known
from liftloop.storage.duckdb import connect, literal, quoted
from liftloop.storage.hashing import fingerprint_of
from liftloop.storage.keys import impressions_prefix, quarantine_prefix
from liftloop.storage.store import Listed, Store

_FILE_CHARACTERS, _VERSION_CHARACTERS = 16, 8
_DUPLICATE = "duplicate of an impression that is already counted"


def newest_event(store: Store, source: str) -> datetime | None:
    """The data's own clock: the newest event time in the lake; None while the lake is empty."""
    files = newest_files(store, source)
    if not files:
        return None
    with connect(store.settings) as connection:
        row = connection.read_parquet([*map(store.uri, files)]).aggregate("max(event_timestamp)").fetchone()
    return row[0] if row else None


def newest_files(store: Store, source: str) -> list[str]:
    """The files of the lake's newest date."""
    keys = [item.key for item in store.list(impressions_prefix(source))]
    newest_date = max((key.rsplit("/", 1)[0] for key in keys), default="")
    return [key for key in keys if key.startswith(f"{newest_date}/")]


def mark_duplicates(
    connection: duckdb.DuckDBPyConnection, store: Store, contract: Contract, object_ids: list[str]
) -> None:
    """Give a reason to every good row whose key came before: earlier in these objects (in order), or in the lake."""
    keys = ", ".join(map(quoted, contract.deduplicate_by))
    ranks = ", ".join(f"({literal(object_id)}, {rank})" for rank, object_id in enumerate(object_ids))
    connection.execute(f"CREATE TEMP TABLE ranks AS SELECT * FROM (VALUES {ranks}) AS t(object_id, rank)")
    create_known(connection, store, contract, _lake_without(store, contract.source, {*object_ids}))
    connection.execute(f"""
        UPDATE impressions SET reasons = [{literal(_DUPLICATE)}], raw = to_json(impressions)::VARCHAR
        WHERE rowid IN (
            SELECT impressions.rowid FROM impressions JOIN ranks USING (object_id) LEFT JOIN known USING ({keys})
            WHERE len(reasons) = 0
            QUALIFY known.is_known OR row_number() OVER (PARTITION BY {keys} ORDER BY rank, impressions.rowid) > 1
        )
    """)


def _lake_without(store: Store, source: str, object_ids: set[str]) -> list[Listed]:
    """The lake's files but for those of these landed files: of another version, or left by an interrupted run."""
    files = {landed_file_of(object_id) for object_id in object_ids}
    lake = store.list(impressions_prefix(source))
    return [item for item in lake if landed_file_of(object_id_in(item.key)) not in files]


def object_id_of(item: Listed) -> str:
    """A short name for one version of a landed file; those of other versions begin alike."""
    return fingerprint_of(item.key)[:_FILE_CHARACTERS] + fingerprint_of(item.etag)[:_VERSION_CHARACTERS]


def landed_file_of(object_id: str) -> str:
    """What the names of all versions of a landed file have in common."""
    return object_id[:_FILE_CHARACTERS]


def object_id_in(key: str) -> str:
    """The landed object that a file of the lake comes from."""
    return Path(key).stem


def stage_impressions(connection: duckdb.DuckDBPyConnection, contract: Contract, object_id: str, folder: Path) -> None:
    """Write an object's good rows under `folder` as they will lie in the lake; the same rows give the same bytes."""
    good = f"FROM impressions WHERE object_id = {literal(object_id)} AND len(reasons) = 0"
    columns = ", ".join(map(quoted, contract.column_types))
    for (date,) in connection.execute(f"SELECT DISTINCT event_timestamp::DATE {good}").fetchall():
        path = folder / impressions_prefix(contract.source) / f"date={date}" / f"{object_id}.parquet"
        on_date = f"SELECT {columns} {good} AND event_timestamp::DATE = DATE '{date}'"
        write_parquet(connection, f"{on_date} ORDER BY event_timestamp, impression_id", path)


def stage_quarantine(connection: duckdb.DuckDBPyConnection, contract: Contract, object_id: str, folder: Path) -> None:
    """Write an object's bad rows under `folder`: line (where no row could be read), reasons[] and the row as landed."""
    rows = f"""
        SELECT NULL::BIGINT AS line, reasons, raw FROM impressions
        WHERE object_id = {literal(object_id)} AND len(reasons) > 0
        UNION ALL SELECT line, [reason], raw FROM unread WHERE object_id = {literal(object_id)}
    """
    if connection.execute(f"SELECT count(*) FROM ({rows})").fetchone() != (0,):
        path = folder / quarantine_prefix(contract.source) / object_id / "rows.parquet"
        write_parquet(connection, f"{rows} ORDER BY line, raw, reasons", path)


def write_parquet(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    """Write the rows of a query to a local file, as all files of lake and quarantine are written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection.execute(f"COPY ({query}) TO {literal(path)} (FORMAT parquet, COMPRESSION zstd)")
