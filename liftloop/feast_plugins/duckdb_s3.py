"""DuckDB connections to Parquet files, local or in S3; shared by the plugins and `liftloop.storage`."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import duckdb

# Loaded from the package's folder, because installing it would write to the user's home folder.
_EXTENSION = f"extensions/v{duckdb.__version__}/httpfs.duckdb_extension"


@dataclass(frozen=True)
class S3Access:
    """Address and keys for s3://. `endpoint_url`: None for AWS, where keys may come from the environment."""

    endpoint_url: str | None = None
    region: str = "us-east-1"
    access_key_id: str | None = None
    secret_access_key: str | None = None

    def __repr__(self) -> str:
        return f"S3Access({self.endpoint_url})"  # no secret in any log


def connect(access: S3Access, database: str | Path = ":memory:") -> duckdb.DuckDBPyConnection:
    """A connection in UTC that reads s3://. The S3 extension comes from PyPI, never from a download."""
    connection = duckdb.connect(str(database))
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")  # DuckDB takes a spawned process for a person at a prompt
    attach_s3(connection, access)
    return connection


def attach_s3(connection: duckdb.DuckDBPyConnection, access: S3Access) -> None:
    """Enable s3:// on an open connection."""
    connection.execute(f"LOAD {literal(files('duckdb_extension_httpfs') / _EXTENSION)}")
    if access.endpoint_url is None:
        connection.execute("CREATE OR REPLACE SECRET store (TYPE s3, PROVIDER config, REGION ?)", [access.region])
        return
    scheme, _, host = access.endpoint_url.partition("://")
    connection.execute(
        "CREATE OR REPLACE SECRET store"
        " (TYPE s3, KEY_ID ?, SECRET ?, REGION ?, ENDPOINT ?, USE_SSL ?, URL_STYLE 'path')",
        [access.access_key_id, access.secret_access_key or "", access.region, host, scheme == "https"],
    )


def quoted(name: str) -> str:
    """A column or table name, safe to place in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: object) -> str:
    """A constant, safe to place in SQL where a parameter is not allowed."""
    if value is None:
        return "NULL"
    if isinstance(value, (bool, int, float)):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"
