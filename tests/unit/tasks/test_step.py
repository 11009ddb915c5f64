"""What a retry can help is tried again, and nothing else is."""

import sqlite3

import duckdb
import httpx
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from liftloop.compute.cluster import ClusterError, WorkersLostError
from liftloop.errors import UserError
from tasks.step import is_transient


def s3_error(status: int) -> ClientError:
    return ClientError({"Error": {"Code": "x"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    "error",
    [
        s3_error(500),
        s3_error(503),
        EndpointConnectionError(endpoint_url="http://s3"),
        httpx.ConnectError("no answer"),
        duckdb.IOException("HTTP 503"),
        OSError(28, "No space left on device"),
        sqlite3.OperationalError("database is locked"),
        WorkersLostError("one was killed"),
    ],
    ids=repr,
)
def test_a_part_that_fails_is_asked_again(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        s3_error(403),
        UserError("mend it"),
        ClusterError("no scheduler"),
        TypeError("a bug"),
        duckdb.BinderException("no such column"),
        FileNotFoundError("contracts/shop.yaml"),
    ],
    ids=repr,
)
def test_what_is_wrong_stays_wrong(error: Exception) -> None:
    assert not is_transient(error)
