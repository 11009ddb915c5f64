import tomllib
from pathlib import Path

import pytest
from pydantic import SecretStr

from liftloop.settings import Settings, load_settings
from liftloop.stack.addresses import (
    running_settings,
    user_settings,
    write_generated_file,
    write_keys_files,
    write_prefect_toml,
)
from liftloop.stack.layout import Credentials, Layout

CREDENTIALS = Credentials()


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIFTLOOP_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "keys").mkdir(parents=True)
    return tmp_path


def bring_up() -> Settings:
    """What `up` does to the settings, without starting anything."""
    own = user_settings(load_settings())
    running = running_settings(own, CREDENTIALS)
    write_generated_file(own, running)
    if own.s3_endpoint_url is None:
        write_keys_files(running, CREDENTIALS)
    return running


def test_load_settings_finds_what_runs() -> None:
    running = bring_up()
    assert load_settings().as_environment() == running.as_environment()
    assert running.s3_endpoint_url == "http://127.0.0.1:8333"
    assert running.prefect_api_url == "http://127.0.0.1:4200/api"
    assert running.s3_secret_access_key == SecretStr(CREDENTIALS.s3_secret_access_key)


def test_generated_file_is_closed_to_others_and_holds_no_more_than_was_open(project: Path) -> None:
    bring_up()
    file = project / "home" / "stack.env"
    assert file.stat().st_mode & 0o777 == 0o600
    names = [line.partition("=")[0] for line in file.read_text().splitlines()[1:]]
    assert names == [
        "LIFTLOOP_S3_ENDPOINT_URL",
        "LIFTLOOP_S3_ACCESS_KEY_ID",
        "LIFTLOOP_S3_SECRET_ACCESS_KEY",
        "LIFTLOOP_PREFECT_API_URL",
        "LIFTLOOP_PREFECT_AUTH",
        "LIFTLOOP_BRIDGE_TOKEN",
    ]


def test_what_an_earlier_up_wrote_is_not_the_users() -> None:
    before = user_settings(load_settings()).as_environment()
    bring_up()
    assert user_settings(load_settings()).as_environment() == before


def test_a_moved_port_counts_although_the_old_address_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    bring_up()
    monkeypatch.setenv("LIFTLOOP_S3_PORT", "9333")
    assert bring_up().s3_endpoint_url == "http://127.0.0.1:9333"
    assert load_settings().s3_endpoint_url == "http://127.0.0.1:9333"


def test_a_part_that_dotenv_points_elsewhere_stays_there(project: Path) -> None:
    bring_up()
    (project / ".env").write_text(
        "LIFTLOOP_S3_ENDPOINT_URL=https://s3.example.org\n"
        "LIFTLOOP_S3_ACCESS_KEY_ID=mine\nLIFTLOOP_S3_SECRET_ACCESS_KEY=hidden\n"
    )
    assert user_settings(load_settings()).s3_endpoint_url == "https://s3.example.org"
    running = bring_up()
    assert (running.s3_endpoint_url, running.s3_access_key_id) == ("https://s3.example.org", "mine")
    assert "S3" not in (project / "home" / "stack.env").read_text()
    assert load_settings().as_environment() == running.as_environment()


def test_prefect_toml_leads_to_the_embedded_server_and_home(project: Path) -> None:
    settings, layout, file = Settings(prefect_port=4321), Layout.of(load_settings()), project / "prefect.toml"
    running = running_settings(settings, CREDENTIALS)
    assert write_prefect_toml(file, settings, running, layout)
    assert write_prefect_toml(file, settings, running, layout)
    assert file.stat().st_mode & 0o777 == 0o600
    assert tomllib.loads(file.read_text()) == {
        "home": str(project / "home" / "prefect"),
        "profiles_path": str(project / "home" / "prefect" / "profiles.toml"),
        "api": {
            "url": "http://127.0.0.1:4321/api",
            "auth_string": f"liftloop:{CREDENTIALS.prefect_password}",
        },
        "server": {"analytics_enabled": False},
    }


def test_prefect_toml_goes_when_the_server_is_the_users(project: Path) -> None:
    layout, file = Layout.of(load_settings()), project / "prefect.toml"
    write_prefect_toml(file, Settings(), running_settings(Settings(), CREDENTIALS), layout)
    users = Settings(prefect_api_url="https://prefect.example.org/api")
    assert write_prefect_toml(file, users, users, layout)
    assert not file.exists()


def test_prefect_toml_of_the_user_is_left_alone(project: Path) -> None:
    file = project / "prefect.toml"
    file.write_text("[api]\n")
    running = running_settings(Settings(), CREDENTIALS)
    assert not write_prefect_toml(file, Settings(), running, Layout.of(load_settings()))
    assert file.read_text() == "[api]\n"


def test_a_role_signs_with_its_own_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    running = bring_up()
    monkeypatch.setenv("LIFTLOOP_ROLE", "ingest")
    settings = load_settings()
    keys = CREDENTIALS.s3_roles.ingest
    assert settings == running.with_keys("ingest", keys.access_key_id, keys.secret_access_key)
    assert settings == running.as_role("ingest")
    assert settings.keys_file("ingest").stat().st_mode & 0o777 == 0o600


def test_a_role_comes_before_the_operators_keys_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    running = bring_up()
    for name, value in running.as_environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LIFTLOOP_ROLE", "train")
    assert load_settings().s3_access_key_id == CREDENTIALS.s3_roles.train.access_key_id


def test_with_a_store_of_the_users_own_every_role_has_the_users_keys(
    monkeypatch: pytest.MonkeyPatch, project: Path
) -> None:
    bring_up()
    (project / ".env").write_text(
        "LIFTLOOP_S3_ENDPOINT_URL=https://s3.example.org\n"
        "LIFTLOOP_S3_ACCESS_KEY_ID=mine\nLIFTLOOP_S3_SECRET_ACCESS_KEY=hidden\n"
    )
    monkeypatch.setenv("LIFTLOOP_ROLE", "ingest")
    assert load_settings().s3_access_key_id == "mine"
    assert load_settings().as_role("audit").s3_access_key_id == "mine"


def test_up_as_a_role_takes_no_keys_for_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    bring_up()
    monkeypatch.setenv("LIFTLOOP_ROLE", "ingest")
    assert user_settings(load_settings()).s3_access_key_id is None
