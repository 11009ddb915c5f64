"""A proxy between the loop and its object store, so that a fault strikes at an exact request.

It passes every request on unchanged, Host header included, so that signatures hold.
"""

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import unquote, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

HOST = "127.0.0.1"
LIMIT_SECONDS = 120  # for the store's answer
_OF_ONE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}
_SIGNATURE = {"authorization", "x-amz-date", "x-amz-content-sha256"}
_SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
_INTERNAL = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>Please try again.</Message></Error>"
_ERROR_BODIES = {500: _INTERNAL, 503: _SLOW_DOWN}


@dataclass(frozen=True)
class Point:
    """A request at which to strike, and whether the store has done its part by then."""

    name: str
    method: str
    key: str  # pattern of the object's key within the bucket
    when: Literal["before", "after"] = "after"

    def is_at(self, method: str, key: str, when: str) -> bool:
        return (self.method, self.when) == (method, when) and re.fullmatch(self.key, key) is not None

    def __str__(self) -> str:
        return f"{self.name}: {self.when} {self.method} {self.key}"


@dataclass
class Strike:
    """Something to do once, at the first request that comes by a point."""

    point: Point
    act: Callable[[], object]
    struck_at: float | None = None  # `time.monotonic()`
    is_over: threading.Event = field(default_factory=threading.Event)


class Proxy:
    """Listens on a port of its own for as long as the block runs; `upstream_port` is the store's."""

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.requests: list[tuple[str, str]] = []  # method and key of each, in order
        self._lock = threading.Lock()
        self._strike: Strike | None = None
        self._trouble: tuple[int | None, float] = (None, 0.0)  # see `trouble`; and until when
        self._secrets: dict[str, str] = {}  # by access key: see `sign_anew`
        self._server = _Server((HOST, 0), type("Handler", (_Handler,), {"proxy": self}))

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def arm(self, point: Point, act: Callable[[], object]) -> Strike:
        """Do `act` at the next request by `point`; the request goes on only when that is done."""
        self._strike = Strike(point, act)
        return self._strike

    def disarm(self) -> None:
        self._strike, self._trouble = None, (None, 0.0)

    def trouble(self, status: int | None, seconds: float) -> None:
        """Answer everything with an HTTP status for so long; None: let everything wait until that time is over."""
        self._trouble = (status, time.monotonic() + seconds)

    def sign_anew(self, secrets: dict[str, str]) -> None:
        """From now on sign every request here and now, by its own access key's secret: its own clock may be off."""
        self._secrets = secrets

    def signed(self, method: str, url: str, headers: dict[str, str], body: bytes | None) -> dict[str, str]:
        """The headers to pass on."""
        claim = re.search(r"Credential=([^/]+)/\d+/([^/]+)/s3/", headers.get("Authorization", ""))
        if claim is None or claim[1] not in self._secrets:
            return headers
        kept = {name: value for name, value in headers.items() if name.lower() not in _SIGNATURE}
        request = AWSRequest(method, f"http://{headers['Host']}{url}", kept, body or b"")
        S3SigV4Auth(Credentials(claim[1], self._secrets[claim[1]]), "s3", claim[2]).add_auth(request)
        return dict(request.headers.items())

    def passes(self, method: str, key: str, when: str) -> None:
        """Called by the handler at each request, before and after the store saw it."""
        if when == "before":
            self.requests.append((method, key))
        with self._lock:
            strike = self._strike
            if strike is None or not strike.point.is_at(method, key, when):
                return
            self._strike = None
        strike.struck_at = time.monotonic()
        try:
            strike.act()
        finally:
            strike.is_over.set()

    def await_trouble(self) -> int | None:
        """Called by the handler: the status to answer with, or None, when the time to wait is over."""
        status, until = self._trouble
        left = until - time.monotonic()
        if status is None:
            time.sleep(max(0.0, left))
        return status if left > 0 else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Clients are killed in the middle of a request, that is what this is for: what is wrong here, a test shows."""


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _pass_on(self) -> None:
        body, key = self._read_body(), unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]
        self.proxy.passes(self.command, key, "before")
        if status := self.proxy.await_trouble():
            return self._answer(status, [("Content-Type", "application/xml")], _ERROR_BODIES[status])
        with suppress(OSError):
            return self._ask_store(body, key)
        self.close_connection = True  # the store is not there: the client sees a connection that breaks

    def _ask_store(self, body: bytes | None, key: str) -> None:
        connection = HTTPConnection(HOST, self.proxy.upstream_port, timeout=LIMIT_SECONDS)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.proxy.signed(self.command, self.path, dict(self.headers), body).items():
                if name.lower() not in _OF_ONE_CONNECTION:
                    connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
        except HTTPException as error:  # it broke off in the middle of its answer
            raise ConnectionError from error
        finally:
            connection.close()
        self.proxy.passes(self.command, key, "after")
        self._answer(answer.status, _headers(answer, self.command), content)

    def _read_body(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return b"".join(iter(self._read_chunk, b""))
        length = self.headers.get("Content-Length")
        return None if length is None else self.rfile.read(int(length))

    def _read_chunk(self) -> bytes:
        chunk = self.rfile.read(int(self.rfile.readline().partition(b";")[0], 16))
        self.rfile.readline()
        return chunk

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD" and status not in (204, 304):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _headers(answer: HTTPResponse, command: str) -> list[tuple[str, str]]:
    dropped = _OF_ONE_CONNECTION - ({"content-length"} if command == "HEAD" else set())
    return [(name, value) for name, value in answer.getheaders() if name.lower() not in dropped]
