"""DuckDB connections of every step: in UTC, with the object store readable as s3://bucket/key."""

from pathlib import Path

import duckdb

from liftloop.feast_plugins import duckdb_s3
from liftloop.feast_plugins.duckdb_s3 import S3Access, literal, quoted
from liftloop.settings import Settings

__all__ = ["connect", "literal", "quoted", "s3_access"]


def connect(settings: Settings, database: str | Path = ":memory:") -> duckdb.DuckDBPyConnection:
    """A connection that can read the bucket."""
    return duckdb_s3.connect(s3_access(settings), database)


def s3_access(settings: Settings) -> S3Access:
    """DuckDB's access to the object store of the settings."""
    secret = settings.s3_secret_access_key
    return S3Access(
        settings.s3_endpoint_url,
        settings.s3_region,
        settings.s3_access_key_id,
        secret.get_secret_value() if secret else None,
    )
