import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from liftloop.stack import wait


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 500)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    """Bound but not yet answering."""
    server = HTTPServer(("127.0.0.1", 0), Healthy)
    yield server
    server.server_close()


def test_the_command_runs_once_the_address_answers(server: HTTPServer) -> None:
    url = f"http://127.0.0.1:{server.server_port}/health"
    command = [sys.executable, "-I", "-S", wait.__file__, url, sys.executable, "-c", "print('ran')"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    time.sleep(0.5)
    assert process.poll() is None
    threading.Thread(target=server.serve_forever).start()
    try:
        assert process.communicate(timeout=300)[0] == "ran\n"
    finally:
        server.shutdown()


def test_an_address_that_never_answers_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "LIMIT_SECONDS", 0)
    with pytest.raises(SystemExit, match=r"127\.0\.0\.1:9/health did not answer within 0 s"):
        wait.main("http://127.0.0.1:9/health", "true")


def test_an_error_is_no_answer(server: HTTPServer) -> None:
    threading.Thread(target=server.serve_forever).start()
    try:
        assert wait.answers(f"http://127.0.0.1:{server.server_port}/health")
        assert not wait.answers(f"http://127.0.0.1:{server.server_port}/other")
    finally:
        server.shutdown()
