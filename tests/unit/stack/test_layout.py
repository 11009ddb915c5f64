import re
from pathlib import Path

import pytest

from liftloop.settings import Settings
from liftloop.stack.layout import Credentials, Layout, StackError


def mode(file: Path) -> int:
    return file.stat().st_mode & 0o777


def test_home_is_open_to_its_owner_alone(tmp_path_factory: pytest.TempPathFactory) -> None:
    layout = Layout.of(Settings(home=tmp_path_factory.mktemp("short") / "home"))
    layout.create()
    layout.create()
    assert mode(layout.home) == 0o700
    assert mode(layout.socket_folder) == 0o700
    assert layout.socket.is_relative_to(layout.home)


def test_paths_are_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Layout.of(Settings(home=Path(".liftloop"))) == Layout(tmp_path / ".liftloop", tmp_path)


def test_home_that_cannot_be_made_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StackError, match=r"file/home cannot be written \(Not a directory\): set LIFTLOOP_HOME"
    ) as error:
        Layout.of(Settings(home=tmp_path / "file" / "home")).create()
    assert "\n" not in str(error.value)


def test_socket_of_a_long_home_is_short_private_and_its_own(tmp_path: Path) -> None:
    one, two = (Layout(tmp_path / ("x" * 120) / name, tmp_path) for name in "ab")
    one.create()
    try:
        assert len(str(one.socket)) < 90
        assert mode(one.socket_folder) == 0o700
        assert one.socket != two.socket
    finally:
        one.remove_temporary_folders()
    assert not one.socket_folder.exists()


def test_credentials_are_kept_and_closed_to_others(tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    first = Credentials.load(file)
    first.write(file)
    assert Credentials.load(file) == first
    assert mode(file) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["credentials.json"]


def test_credentials_are_new_for_every_stack_and_never_shown(tmp_path: Path) -> None:
    one, two = Credentials.load(tmp_path / "a"), Credentials.load(tmp_path / "b")
    secrets, others = (set(re.findall(r"[0-9a-f]{20,}", each.model_dump_json())) for each in (one, two))
    assert len(secrets) == 8 + 2 * 4
    assert secrets.isdisjoint(others)
    assert not any(secret in repr(one) for secret in secrets)


def test_credentials_of_an_earlier_version_are_kept_and_added_to(tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    file.write_text('{"s3_access_key_id": "kept"}')
    first = Credentials.load(file)
    first.write(file)
    assert first.s3_access_key_id == "kept"
    assert Credentials.load(file) == first


def test_damaged_credentials_are_named_with_the_remedy(tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    file.write_text('{"s3_access_key_id": ')
    with pytest.raises(StackError, match=r"credentials\.json is damaged: delete it"):
        Credentials.load(file)
