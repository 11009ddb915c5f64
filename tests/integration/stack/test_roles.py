"""What each identity of the object store may not do, and where secrets may not be."""

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from queue import Empty, Queue
from threading import Thread
from typing import Any, get_args
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from liftloop.settings import Role, Settings
from liftloop.stack.layout import HOST, Layout
from liftloop.stack.parts import store_ports
from liftloop.stack.roles import GRANTS
from liftloop.storage.store import Store, SwapConflict

ROLES: tuple[Role, ...] = get_args(Role)
PREFIXES = (
    *("audit/", "blobs/", "checkpoints/", "decisions/", "erasures/", "features/", "landing/", "lake/", "ledger/"),
    *("outcomes/", "quarantine/", "registry/", "reports/", "runs/", "tiles/", "other/", ""),
)
# By hand, so that a slip in the grants is seen here. Everything that is not here is denied.
MAY_READ = {
    "operator": set(PREFIXES),
    "ingest": {
        "erasures/",
        "features/",
        "lake/",
        "landing/",
        "ledger/",
        "quarantine/",
        "registry/",
        "reports/",
        "runs/",
    },
    "train": set(PREFIXES),
    "serve": {"blobs/", "features/", "registry/"},
    "audit": {"audit/"},
}
MAY_WRITE = {
    "operator": set(PREFIXES),
    "ingest": {"lake/", "ledger/", "quarantine/", "reports/", "runs/"},
    "train": {"blobs/", "checkpoints/", "features/", "registry/", "reports/", "runs/", "tiles/"},
    "serve": set(),
    "audit": {"audit/"},
}
MAY_DELETE = {
    "operator": set(PREFIXES),
    "ingest": {"lake/", "ledger/"},  # an object without an entry is read again
    "train": {"checkpoints/", "features/", "tiles/"},
    "serve": set(),
    "audit": set(),
}


@pytest.fixture(scope="module")
def filled(object_store: Settings) -> Iterator[Settings]:
    """The store, with one object under every prefix; what the tests put there goes again."""
    store, before = Store(object_store), {item.key for item in Store(object_store).list("")}
    for prefix in PREFIXES:
        store.put(f"{prefix}there", b"there")
    yield object_store
    store.delete(item.key for item in store.list("") if item.key not in before)


@pytest.fixture(scope="module")
def clients(filled: Settings) -> dict[Role, Any]:
    return {role: client(filled.as_role(role)) for role in ROLES}


def client(settings: Settings) -> Any:
    assert settings.s3_secret_access_key is not None
    return boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=settings.s3_access_key_id,
        aws_secret_access_key=settings.s3_secret_access_key.get_secret_value(),
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


def is_allowed(request: Callable[[], object]) -> bool:
    try:
        request()
    except ClientError as error:
        if error.response["Error"]["Code"] in {"AccessDenied", "403"}:
            return False
        raise
    return True


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_what_its_work_needs_and_no_more(
    clients: dict[Role, Any], filled: Settings, role: Role, prefix: str
) -> None:
    s3, there = clients[role], {"Bucket": filled.bucket, "Key": f"{prefix}there"}
    may_read, may_write, may_delete = (may[role] for may in (MAY_READ, MAY_WRITE, MAY_DELETE))
    assert is_allowed(lambda: s3.get_object(**there)) == (prefix in may_read)
    assert is_allowed(lambda: s3.head_object(**there)) == (prefix in may_read)
    assert is_allowed(lambda: s3.list_objects_v2(Bucket=filled.bucket, Prefix=prefix)) == (prefix in may_read)
    new = {"Bucket": filled.bucket, "Key": f"{prefix}new-{role}"}
    assert is_allowed(lambda: s3.put_object(**new, Body=b"")) == (prefix in may_write)
    copied = {"Bucket": filled.bucket, "Key": f"{prefix}copy-{role}", "CopySource": "/".join(there.values())}
    assert is_allowed(lambda: s3.copy_object(**copied)) == (prefix in may_write & may_read)
    assert is_allowed(lambda: s3.create_multipart_upload(**new)) == (prefix in may_write)
    assert is_allowed(lambda: s3.delete_object(**new)) == (prefix in may_delete)
    many = s3.delete_objects(Bucket=filled.bucket, Delete={"Objects": [{"Key": new["Key"]}]})
    assert ([error["Code"] for error in many.get("Errors", [])] == []) == (prefix in may_delete)


@pytest.mark.parametrize("role", ROLES)
def test_no_role_administers_anything(clients: dict[Role, Any], filled: Settings, role: Role) -> None:
    s3, bucket = clients[role], filled.bucket
    everyone = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": f"arn:aws:s3:::{bucket}/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [everyone]})
    assert not is_allowed(lambda: s3.create_bucket(Bucket="other"))
    assert not is_allowed(lambda: s3.delete_bucket(Bucket=bucket))
    assert not is_allowed(lambda: s3.put_bucket_policy(Bucket=bucket, Policy=policy))
    assert not is_allowed(lambda: s3.put_object(Bucket="other", Key="new", Body=b""))


@pytest.mark.parametrize("key", ["lakeside/new", "lake", "audits/new", "landing/../lake/new"])
def test_a_prefix_ends_at_its_slash(clients: dict[Role, Any], filled: Settings, key: str) -> None:
    for role in GRANTS:
        with pytest.raises(ClientError, match=r"AccessDenied|InvalidRequest"):
            clients[role].put_object(Bucket=filled.bucket, Key=key, Body=b"")


def test_the_audit_trail_is_appended_by_one_who_cannot_take_back(filled: Settings) -> None:
    operator, auditor = Store(filled), Store(filled).as_role("audit")
    assert auditor.settings.s3_access_key_id != operator.settings.s3_access_key_id
    auditor.swap("audit/shop/00000001.json", b"{}", expected_etag=None)
    with pytest.raises(SwapConflict):
        auditor.swap("audit/shop/00000001.json", b"{1}", expected_etag=None)
    with pytest.raises(ClientError, match="AccessDenied"):
        auditor.delete(["audit/shop/00000001.json"])
    with pytest.raises(ClientError, match="AccessDenied"):
        operator.as_role("train").swap("audit/shop/00000002.json", b"{}", expected_etag=None)
    assert operator.get("audit/shop/00000001.json") == b"{}"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE"])
@pytest.mark.parametrize("service", ["s3", "filer", "master", "volume"])
@pytest.mark.parametrize("path", ["/liftloop/", "/liftloop/there", "/buckets/liftloop/there"])
def test_nobody_comes_in_unsigned(filled: Settings, service: str, method: str, path: str) -> None:
    port = store_ports(filled)[f"{service}.port"]
    request = Request(f"http://{HOST}:{port}{path}", data=b"x" if method in {"PUT", "POST"} else None, method=method)
    with pytest.raises((HTTPError, ConnectionError, OSError)) as refusal, urlopen(request, timeout=60):
        pass
    assert getattr(refusal.value, "code", 403) >= 400
    assert Store(filled).get("there") == b"there"


def is_let_in(settings: Settings, service: str, tls: ssl.SSLContext | None) -> bool:
    """Whether the gRPC port of a service begins to speak HTTP/2 with us: its first frame is one of settings."""
    address = (HOST, store_ports(settings)[f"{service}.port.grpc"])
    try:
        with socket.create_connection(address, timeout=60) as plain:
            connection = tls.wrap_socket(plain, server_hostname=HOST) if tls else plain
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
            return connection.recv(9)[3:4] == b"\x04"
    except OSError:
        return False


@pytest.mark.parametrize("service", ["master", "volume", "filer", "s3", "admin"])
def test_nobody_comes_in_by_grpc_without_the_stores_own_certificate(filled: Settings, service: str) -> None:
    """These ports read, write and delete all without an S3 identity."""
    layout = Layout.of(filled)
    tls = ssl.create_default_context(cafile=layout.certificate_file)
    tls.set_alpn_protocols(["h2"])
    assert not is_let_in(filled, service, None)
    assert not is_let_in(filled, service, tls)
    tls.load_cert_chain(layout.certificate_file, layout.certificate_key_file)
    assert is_let_in(filled, service, tls)  # so it is the certificate that counts


@pytest.fixture
def notices(filled: Settings, source: str) -> Iterator["Queue[tuple[str, str, str]]"]:
    """What the store posts to where the bridge would listen: path, credential, key."""
    posted: Queue[tuple[str, str, str]] = Queue()

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if f"/{source}" in body["key"]:  # not one of an earlier test, sent again
                posted.put((self.path, self.headers["Authorization"], body["key"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer((HOST, filled.bridge_port), Listener) as server:
        Thread(target=server.serve_forever).start()
        yield posted
        server.shutdown()


def test_the_bridge_is_told_of_what_lands_at_once_and_of_nothing_else(
    filled: Settings, source: str, notices: "Queue[tuple[str, str, str]]"
) -> None:
    assert filled.bridge_token is not None
    for key in (f"lake/{source}/1", f"landing/{source}/1", f"runs/{source}/1", f"landing/{source}/2"):
        Store(filled).put(key, b"body")
    told = [notices.get(timeout=120) for _ in range(3)]  # the folder is new too
    credential = f"Bearer {filled.bridge_token.get_secret_value()}"
    assert {(path, given) for path, given, _ in told} == {("/landing", credential)}
    assert {key.removeprefix("/buckets/liftloop/landing/") for _, _, key in told} == {
        source,
        f"{source}/1",
        f"{source}/2",
    }
    with pytest.raises(Empty):
        notices.get(timeout=0.5)
