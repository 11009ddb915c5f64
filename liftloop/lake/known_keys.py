"""The deduplication keys in the lake, gathered in a few larger files because its own are many and small."""

import tempfile
from pathlib import Path

import duckdb

from liftloop.contract.contract import Contract
from liftloop.storage.duckdb import literal, quoted
from liftloop.storage.hashing import fingerprint_of
from liftloop.storage.keys import known_keys_prefix
from liftloop.storage.store import Listed, Store

FILES_TO_GATHER = 100


def create_known(
    connection: duckdb.DuckDBPyConnection, store: Store, contract: Contract, places: dict[Listed, int]
) -> None:
    """Create the temporary table `known`: the keys of table `impressions` that these files of the lake also hold.

    Each with the lowest `place` of a file that holds it, and the `filename`.

    Gathered keys name the version of the file they come from, so they may be incomplete but never wrong. Keys of the
    other files are read from the lake, and gathered if there are `FILES_TO_GATHER` files or more.
    """
    keys = ", ".join(map(quoted, contract.deduplicate_by))
    versions = {f"{item.key}#{item.etag}": store.uri(item.key) for item in places}
    connection.execute(
        "CREATE TEMP TABLE lake AS SELECT unnest($1::VARCHAR[]) AS version, unnest($2::VARCHAR[]) AS filename,"
        " unnest($3::BIGINT[]) AS place",
        [list(versions), list(versions.values()), list(places.values())],
    )
    files = [store.uri(item.key) for item in store.list(_prefix(contract))]
    missing = sorted(versions.keys() - _gathered(connection, files))
    with tempfile.TemporaryDirectory(prefix="liftloop-") as folder:
        if missing:
            files.append(str(_gather(connection, keys, [versions[name] for name in missing], Path(folder))))
        if len(missing) >= FILES_TO_GATHER:
            store.put(f"{_prefix(contract)}{fingerprint_of(*missing)}.parquet", Path(files[-1]).read_bytes())
        held = f"SELECT {keys}, place, lake.filename FROM read_parquet({files}) JOIN lake USING (version)"
        nothing = f"SELECT {keys}, 0::BIGINT AS place, '' AS filename FROM impressions WHERE false"
        connection.execute(f"""
            CREATE TEMP TABLE known AS SELECT {keys}, min(place) AS place, arg_min(filename, place) AS filename
            FROM ({held if files else nothing}) SEMI JOIN impressions USING ({keys}) GROUP BY ALL
        """)


def _prefix(contract: Contract) -> str:
    return known_keys_prefix(contract.source, fingerprint_of(*contract.deduplicate_by)[:16])


def _gathered(connection: duckdb.DuckDBPyConnection, files: list[str]) -> set[str]:
    """The versions of lake files whose keys are in these files."""
    if not files:
        return set()
    return {row[0] for row in connection.execute(f"SELECT DISTINCT version FROM read_parquet({files})").fetchall()}


def _gather(connection: duckdb.DuckDBPyConnection, keys: str, uris: list[str], folder: Path) -> Path:
    """Write the keys of these files of the lake to one local file."""
    path = folder / "keys.parquet"
    rows = f"read_parquet({uris}, union_by_name = true, filename = true) JOIN lake USING (filename)"
    connection.execute(
        f"COPY (SELECT lake.version, {keys} FROM {rows}) TO {literal(path)} (FORMAT parquet, COMPRESSION zstd)"
    )
    return path
