from pathlib import Path

import pytest

from liftloop.settings import Settings
from liftloop.stack import StackError, initialise
from liftloop.stack.addresses import running_settings, write_generated_file
from liftloop.stack.initialise import command_environment
from liftloop.stack.layout import Credentials


def test_without_a_server_the_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="run `liftloop up` first"):
        initialise(Settings(home=tmp_path), print)


def test_commands_of_the_embedded_server_see_our_settings_and_our_prefect_home(tmp_path: Path) -> None:
    own = Settings(home=tmp_path, bucket="ads")
    running = running_settings(own, Credentials())
    write_generated_file(own, running)
    environment = command_environment(running)
    assert environment["LIFTLOOP_BUCKET"] == "ads"
    assert environment["LIFTLOOP_HOME"] == str(tmp_path)
    assert running.s3_secret_access_key is not None
    assert environment["LIFTLOOP_S3_SECRET_ACCESS_KEY"] == running.s3_secret_access_key.get_secret_value()
    assert environment["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert environment["PREFECT_HOME"] == str(tmp_path / "prefect")


def test_commands_of_a_server_of_the_users_own_keep_its_prefect_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PREFECT_HOME", "/home/user/.prefect")
    environment = command_environment(Settings(home=tmp_path, prefect_api_url="https://prefect.example.org/api"))
    assert environment["PREFECT_API_URL"] == "https://prefect.example.org/api"
    assert environment["PREFECT_HOME"] == "/home/user/.prefect"
