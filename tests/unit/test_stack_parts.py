import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from liftloop.settings import Settings
from liftloop.stack.layout import Credentials, Layout
from liftloop.stack.parts import Part, embedded_parts, identities, object_store, prefect_server, store_ports, worker

CREDENTIALS = Credentials()


def parts_of(settings: Settings) -> dict[str, Part]:
    return {part.name: part for part in embedded_parts(settings, Layout.of(settings), CREDENTIALS)}


def test_every_port_of_the_store_follows_from_one_setting() -> None:
    ports = store_ports(Settings(s3_port=9000))
    assert ports["s3.port"] == 9000
    assert sorted(ports.values()) == [*range(9000, 9005), *range(19000, 19005)]
    assert all(ports[f"{service}.port.grpc"] == ports[f"{service}.port"] + 10_000 for service in ("filer", "admin"))


def test_a_port_whose_twin_would_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError, match="55531"):
        Settings(s3_port=60_000)


def test_the_store_is_started_closed() -> None:
    settings = Settings(home=Path("/srv/home"))
    part = object_store(settings, Layout.of(settings), CREDENTIALS)
    flags = dict(flag.removeprefix("-").split("=", 1) for flag in part.command if flag.startswith("-"))
    expected = {"ip": "127.0.0.1", "ip.bind": "127.0.0.1", "disableHttp": "true", "master.telemetry": "false"}
    assert expected.items() <= flags.items()
    assert {flags[f"{service}.localSocket"] for service in ("filer", "s3")} == {
        "/srv/home/supervisor/filer.sock",
        "/srv/home/supervisor/s3.sock",
    }
    assert {key for key in flags if key.endswith((".port", ".grpc"))} == set(store_ports(settings))
    assert part.environment["AWS_ACCESS_KEY_ID"] == ""


def test_no_secret_is_in_a_command_line() -> None:
    text = " ".join(word for part in parts_of(Settings()).values() for word in part.command)
    assert not any(secret in text for secret in CREDENTIALS.model_dump().values())


def test_the_one_identity_may_use_one_bucket_and_administer_nothing() -> None:
    (identity,) = json.loads(identities(Settings(bucket="ads"), CREDENTIALS))["identities"]
    assert sorted(identity["actions"]) == ["List:ads", "Read:ads", "Tagging:ads", "Write:ads"]
    assert identity["credentials"] == [
        {"accessKey": CREDENTIALS.s3_access_key_id, "secretKey": CREDENTIALS.s3_secret_access_key}
    ]


@pytest.mark.parametrize(
    ("external", "expected"),
    [
        ({}, ["object-store", "prefect-server", "worker"]),
        ({"s3_endpoint_url": "https://s3.example.org"}, ["prefect-server", "worker"]),
        ({"prefect_api_url": "https://prefect.example.org/api"}, ["object-store"]),
    ],
)
def test_what_the_user_points_elsewhere_is_not_started(external: dict[str, str], expected: list[str]) -> None:
    assert list(parts_of(Settings.model_validate(external))) == expected


def test_prefect_keeps_to_itself() -> None:
    settings = Settings(home=Path("/srv/home"), prefect_port=4321)
    layout = Layout.of(settings, Path("/srv/project"))
    server, process_worker = prefect_server(settings, layout), worker(settings, layout)
    for part in (server, process_worker):
        assert part.environment["PREFECT_HOME"] == "/srv/home/prefect"
        assert part.environment["PREFECT_API_URL"] == "http://127.0.0.1:4321/api"
        assert part.environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
        assert part.environment["DO_NOT_TRACK"] == "1"
    assert server.command[-4:] == ("--host", "127.0.0.1", "--port", "4321")
    assert process_worker.environment["LIFTLOOP_HOME"] == "/srv/home"
    assert process_worker.environment["GX_ANALYTICS_ENABLED"] == "false"
    assert process_worker.environment["FEAST_USAGE"] == "False"
