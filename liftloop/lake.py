"""The lake: canonical impressions by date, one Parquet file for each landed object, and the quarantine beside it."""

from pathlib import Path

import duckdb

from liftloop.contract import Contract
from liftloop.duck import literal, quoted
from liftloop.store import Store

_DUPLICATE = "duplicate of an impression that is already counted"


def impressions_prefix(source: str) -> str:
    return f"lake/{source}/impressions/"


def mark_duplicates(
    connection: duckdb.DuckDBPyConnection, store: Store, contract: Contract, object_ids: list[str]
) -> None:
    """Give a reason to every good row whose key came before: earlier in these objects (in order), or in the lake."""
    keys = ", ".join(map(quoted, contract.deduplicate_by))
    ranks = ", ".join(f"({literal(object_id)}, {rank})" for rank, object_id in enumerate(object_ids))
    connection.execute(f"CREATE TEMP TABLE ranks AS SELECT * FROM (VALUES {ranks}) AS t(object_id, rank)")
    connection.execute(f"CREATE TEMP TABLE known AS {_known_keys(connection, store, contract, object_ids)}")
    connection.execute(f"""
        UPDATE impressions SET reasons = [{literal(_DUPLICATE)}], raw = to_json(impressions)::VARCHAR
        WHERE rowid IN (
            SELECT impressions.rowid FROM impressions JOIN ranks USING (object_id) LEFT JOIN known USING ({keys})
            WHERE len(reasons) = 0
            QUALIFY known.is_known OR row_number() OVER (PARTITION BY {keys} ORDER BY rank, impressions.rowid) > 1
        )
    """)


def _known_keys(connection: duckdb.DuckDBPyConnection, store: Store, contract: Contract, object_ids: list[str]) -> str:
    """The batch's keys that the lake has, on any date, but for what an interrupted run of these objects left there."""
    listed = store.list(impressions_prefix(contract.source))
    files = [store.uri(item.key) for item in listed if object_id_in(item.key) not in object_ids]
    keys = ", ".join(map(quoted, contract.deduplicate_by))
    if not files:
        return f"SELECT {keys}, true AS is_known FROM impressions WHERE false"
    connection.read_parquet(files, union_by_name=True).create_view("lake")
    return f"SELECT DISTINCT {keys}, true AS is_known FROM lake SEMI JOIN impressions USING ({keys})"


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
        _write_parquet(connection, f"{on_date} ORDER BY event_timestamp, impression_id", path)


def stage_quarantine(connection: duckdb.DuckDBPyConnection, contract: Contract, object_id: str, folder: Path) -> None:
    """Write an object's bad rows under `folder`: line (where no row could be read), reasons[] and the row as landed."""
    rows = f"""
        SELECT NULL::BIGINT AS line, reasons, raw FROM impressions
        WHERE object_id = {literal(object_id)} AND len(reasons) > 0
        UNION ALL SELECT line, [reason], raw FROM unread WHERE object_id = {literal(object_id)}
    """
    if connection.execute(f"SELECT count(*) FROM ({rows})").fetchone() != (0,):
        path = folder / "quarantine" / contract.source / object_id / "rows.parquet"
        _write_parquet(connection, f"{rows} ORDER BY line, raw, reasons", path)


def _write_parquet(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection.execute(f"COPY ({query}) TO {literal(path)} (FORMAT parquet, COMPRESSION zstd)")
