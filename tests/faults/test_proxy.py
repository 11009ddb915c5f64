"""The proxy itself: what goes through it arrives unchanged, and a strike comes when it should."""

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from faults.proxy import Point, Proxy
from liftloop.settings import Settings
from liftloop.storage.store import Store, SwapConflict


@pytest.fixture
def proxy(object_store: Settings) -> Iterator[Proxy]:
    with Proxy(object_store.s3_port) as proxy:
        yield proxy


@pytest.fixture
def store(object_store: Settings, proxy: Proxy) -> Store:
    return Store(object_store.model_copy(update={"s3_endpoint_url": proxy.url}))


@pytest.fixture
def prefix() -> str:
    return f"proxy/{uuid4().hex}/"


def test_boto3_works_through_it(store: Store, prefix: str) -> None:
    body = bytes(range(256)) * 4096
    refs = [store.put(f"{prefix}a b+c/{number}", body) for number in range(3)]
    assert [store.find(ref.key) for ref in refs] == refs
    assert store.get(refs[0].key) == body
    assert [item.key for item in store.list(prefix)] == [ref.key for ref in refs]
    store.delete([refs[0].key])
    with pytest.raises(KeyError):
        store.get(refs[0].key)
    assert store.find(refs[0].key) is None


def test_compare_and_swap_works_through_it(store: Store, prefix: str) -> None:
    etag = store.swap(f"{prefix}pointer", b"1", expected_etag=None)
    store.swap(f"{prefix}pointer", b"2", expected_etag=etag)
    with pytest.raises(SwapConflict):
        store.swap(f"{prefix}pointer", b"3", expected_etag=etag)


_SUM = """
import sys
from liftloop.storage.duckdb import connect
from liftloop.settings import Settings
with connect(Settings()) as connection:
    rows = connection.read_parquet(sys.argv[1]).filter("number >= 499000")
    print(rows.aggregate("sum(number)").fetchone()[0])
"""


def test_duckdb_reads_through_it(store: Store, proxy: Proxy, prefix: str) -> None:
    body = io.BytesIO()
    pq.write_table(pa.table({"number": range(500_000), "text": ["x" * 20] * 500_000}), body, row_group_size=50_000)
    store.put(f"{prefix}part.parquet", body.getvalue())
    # In a process of its own: DuckDB holds the interpreter while it asks, and the proxy here could not answer.
    command = [sys.executable, "-c", _SUM, store.uri(f"{prefix}*.parquet")]
    done = subprocess.run(command, env=os.environ | store.settings.as_environment(), capture_output=True, text=True)
    assert done.stdout.strip() == str(sum(range(499_000, 500_000))), done.stderr
    assert ("GET", f"{prefix}part.parquet") in proxy.requests


def test_many_requests_at_once(store: Store, prefix: str) -> None:
    with ThreadPoolExecutor(16) as pool:
        refs = list(pool.map(lambda number: store.put(f"{prefix}{number:03}", b"x" * number), range(200)))
    assert [item.size_bytes for item in store.list(prefix)] == [ref.size_bytes for ref in refs]


@pytest.mark.parametrize(("when", "is_there"), [("before", False), ("after", True)])
def test_a_strike_comes_once_and_at_its_point(
    store: Store, proxy: Proxy, prefix: str, when: str, is_there: bool
) -> None:
    seen: list[bool] = []
    straight = Store(store.settings.model_copy(update={"s3_endpoint_url": f"http://127.0.0.1:{proxy.upstream_port}"}))
    point = Point("a put", "PUT", f"{prefix}.*", "before" if when == "before" else "after")
    strike = proxy.arm(point, lambda: seen.append(straight.find(f"{prefix}a") is not None))
    store.get_version(store.put("elsewhere", b"").key)
    assert strike.struck_at is None
    for _ in range(2):
        store.put(f"{prefix}a", b"x")
    assert seen == [is_there]
    assert strike.is_over.is_set()


@pytest.mark.parametrize(("status", "code"), [(500, b"InternalError"), (503, b"SlowDown")])
def test_errors_are_those_of_s3(store: Store, proxy: Proxy, prefix: str, status: int, code: bytes) -> None:
    proxy.trouble(status, 60)
    with pytest.raises(HTTPError) as raised:
        urlopen(f"{proxy.url}/{prefix}a")
    assert raised.value.code == status
    assert b"<Code>" + code + b"</Code>" in raised.value.read()
    proxy.disarm()
    assert store.put(f"{prefix}a", b"x").size_bytes == 1


def test_waiting_ends(store: Store, proxy: Proxy, prefix: str) -> None:
    proxy.trouble(None, 0.5)
    began = time.monotonic()
    store.put(f"{prefix}a", b"x")
    slow, began = time.monotonic() - began, time.monotonic()
    store.put(f"{prefix}b", b"x")
    assert slow >= 0.5 > time.monotonic() - began


def test_a_store_that_is_gone_breaks_the_connection(object_store: Settings) -> None:
    with Proxy(upstream_port=1) as proxy, pytest.raises(BotoCoreError):
        Store(object_store.model_copy(update={"s3_endpoint_url": proxy.url})).put("a", b"x")


def test_a_request_of_another_time_is_signed_anew(store: Store, proxy: Proxy, prefix: str) -> None:
    store._client.meta.events.register("before-send.s3", _age)
    with pytest.raises(ClientError):
        store.put(f"{prefix}a b+c", b"x")
    secret = store.settings.s3_secret_access_key
    proxy.sign_anew({str(store.settings.s3_access_key_id): secret.get_secret_value() if secret else ""})
    store.put(f"{prefix}a b+c", b"x")
    assert store.get(f"{prefix}a b+c") == b"x"
    assert [item.key for item in store.list(prefix)] == [f"{prefix}a b+c"]


def _age(request: Any, **_: object) -> None:
    request.headers["X-Amz-Date"] = "20200101T000000Z"
