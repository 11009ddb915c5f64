import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from liftloop.settings import Settings
from liftloop.stack import StackError, status, up
from liftloop.stack.checks import require_binaries, require_free_ports
from liftloop.stack.layout import Credentials, Layout
from liftloop.stack.parts import Part, embedded_parts


def parts_of(settings: Settings) -> list[Part]:
    return embedded_parts(settings, Layout.of(settings), Credentials())


@pytest.fixture(params=["127.0.0.1", ""])
def taken_port(request: pytest.FixtureRequest) -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((request.param, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_is_named_with_its_holder_and_the_setting(taken_port: int) -> None:
    with pytest.raises(StackError) as error:
        require_free_ports(parts_of(Settings(s3_port=22_000, prefect_port=taken_port)))
    message = str(error.value)
    assert message.startswith(f"port {taken_port} of the prefect-server is taken by ")
    assert f"(pid {os.getpid()})" in message
    assert "set LIFTLOOP_PREFECT_PORT" in message
    assert "\n" not in message


def test_a_port_that_two_parts_want_is_refused() -> None:
    with pytest.raises(StackError, match="port 22004 of the prefect-server is taken by the object-store"):
        require_free_ports(parts_of(Settings(s3_port=22_000, prefect_port=22_004)))


def test_missing_program_is_named_with_the_remedy(tmp_path: Path) -> None:
    for binary in ("supervisord", "prefect"):
        (tmp_path / binary).touch()
    with pytest.raises(StackError, match=r"weed is not in .*: install requirements\.lock"):
        require_binaries(parts_of(Settings()), tmp_path)
    require_binaries(parts_of(Settings(s3_endpoint_url="https://s3.example.org")), tmp_path)


def test_full_disk_is_refused_before_anything_starts(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("short") / "home"
    with pytest.raises(
        StackError, match=r"MiB are free in .*/home, .* are needed: free up space, .* LIFTLOOP_MIN_FREE_BYTES"
    ):
        up(Settings(home=home, min_free_bytes=2**60), print)
    assert not (home / "stack.env").exists()


def test_keys_without_an_address_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="LIFTLOOP_S3_ENDPOINT_URL is not: set all three"):
        up(Settings(home=tmp_path / "home", s3_access_key_id="mine"), print)


def test_status_before_the_first_up_changes_nothing(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", prefect_api_url="https://prefect.example.org/api")
    assert [(part.name, part.state) for part in status(settings)] == [
        ("object-store", "stopped"),
        ("bridge", "stopped"),
        ("prefect-server", "external"),
    ]
    assert not (tmp_path / "home").exists()
