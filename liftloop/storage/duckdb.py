"""DuckDB as every step opens it: UTC, and the object store readable as s3://bucket/key."""

from importlib.resources import files
from pathlib import Path

import duckdb

from liftloop.settings import Settings

# Loaded where the package put it: installing it would write to the user's home folder.
_EXTENSION = f"extensions/v{duckdb.__version__}/httpfs.duckdb_extension"


def connect(settings: Settings, database: str | Path = ":memory:") -> duckdb.DuckDBPyConnection:
    """A connection that reads the bucket. The S3 extension comes from the environment, never from a download."""
    connection = duckdb.connect(str(database))
    connection.execute("SET TimeZone = 'UTC'")
    attach_store(connection, settings)
    return connection


def attach_store(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Let an open connection read the bucket."""
    connection.execute(f"LOAD {literal(files('duckdb_extension_httpfs') / _EXTENSION)}")
    if settings.s3_endpoint_url is None:
        connection.execute("CREATE OR REPLACE SECRET store (TYPE s3, PROVIDER config, REGION ?)", [settings.s3_region])
        return
    scheme, _, host = settings.s3_endpoint_url.partition("://")
    secret = settings.s3_secret_access_key
    connection.execute(
        "CREATE OR REPLACE SECRET store"
        " (TYPE s3, KEY_ID ?, SECRET ?, REGION ?, ENDPOINT ?, USE_SSL ?, URL_STYLE 'path')",
        [
            settings.s3_access_key_id,
            secret.get_secret_value() if secret else "",
            settings.s3_region,
            host,
            scheme == "https",
        ],
    )


def quoted(name: str) -> str:
    """A column or table name, safe to place in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: object) -> str:
    """A constant, safe to place in SQL where a parameter cannot stand."""
    if value is None:
        return "NULL"
    if isinstance(value, (bool, int, float)):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"
