import json
import socket
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from liftloop.settings import Settings
from liftloop.stack.layout import Credentials, Layout
from liftloop.stack.parts import Part, embedded_parts, remove_store_sockets, store_ports
from liftloop.stack.roles import GRANTS, identities

CREDENTIALS = Credentials()


def parts_of(settings: Settings) -> dict[str, Part]:
    layout = Layout.of(settings, Path("/srv/project"))
    return {part.name: part for part in embedded_parts(settings, layout, CREDENTIALS)}


def secrets_in(values: object) -> set[str]:
    """Every secret of (nested) credentials."""
    return set().union(*map(secrets_in, values.values())) if isinstance(values, dict) else {str(values)}


def test_every_port_of_the_store_follows_from_one_setting() -> None:
    ports = store_ports(Settings(s3_port=9000))
    assert ports["s3.port"] == 9000
    assert sorted(ports.values()) == [*range(9000, 9005), *range(19000, 19005)]
    assert all(ports[f"{service}.port.grpc"] == ports[f"{service}.port"] + 10_000 for service in ("filer", "admin"))


def test_a_port_whose_twin_would_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError, match="55531"):
        Settings(s3_port=60_000)


def test_the_store_is_started_closed() -> None:
    part = parts_of(Settings(home=Path("/srv/home")))["object-store"]
    flags = dict(flag.removeprefix("-").split("=", 1) for flag in part.command if flag.startswith("-"))
    expected = {"ip": "127.0.0.1", "ip.bind": "127.0.0.1", "disableHttp": "true", "master.telemetry": "false"}
    assert expected.items() <= flags.items()
    assert {flags[f"{service}.localSocket"] for service in ("filer", "s3")} == {
        "/srv/home/supervisor/filer.sock",
        "/srv/home/supervisor/s3.sock",
    }
    assert {key for key in flags if key.endswith((".port", ".grpc"))} == set(store_ports(Settings()))
    assert part.environment["AWS_ACCESS_KEY_ID"] == ""


def test_no_secret_is_in_a_command_line() -> None:
    text = " ".join(word for part in parts_of(Settings()).values() for word in part.command)
    assert not any(secret in text for secret in secrets_in(CREDENTIALS.model_dump()))


def test_the_operator_has_one_bucket_and_everyone_else_a_policy() -> None:
    text = identities(Settings(bucket="ads"), CREDENTIALS)
    operator, *roles = json.loads(text)["identities"]
    assert sorted(operator["actions"]) == ["List:ads", "Read:ads", "Tagging:ads", "Write:ads"]
    assert operator["credentials"] == [
        {"accessKey": CREDENTIALS.s3_access_key_id, "secretKey": CREDENTIALS.s3_secret_access_key}
    ]
    assert [role["policyNames"] for role in roles] == [[policy["name"]] for policy in json.loads(text)["policies"]]
    assert not any("actions" in role for role in roles)  # they would add to the policy
    assert len({role["credentials"][0]["secretKey"] for role in (operator, *roles)}) == 1 + len(GRANTS)


@pytest.mark.parametrize(
    ("external", "expected"),
    [
        ({}, ["object-store", "prefect-server", "worker", "bridge"]),
        ({"s3_endpoint_url": "https://s3.example.org"}, ["prefect-server", "worker", "bridge"]),
        ({"prefect_api_url": "https://prefect.example.org/api"}, ["object-store", "bridge"]),
    ],
)
def test_what_the_user_points_elsewhere_is_not_started(external: dict[str, str], expected: list[str]) -> None:
    assert list(parts_of(Settings.model_validate(external))) == expected


def test_prefect_keeps_to_itself() -> None:
    parts = parts_of(Settings(home=Path("/srv/home"), prefect_port=4321))
    server, process_worker = parts["prefect-server"], parts["worker"]
    for part in (server, process_worker, parts["bridge"]):
        assert part.environment["PREFECT_HOME"] == "/srv/home/prefect"
        assert part.environment["PREFECT_API_URL"] == "http://127.0.0.1:4321/api"
        assert part.environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
        assert part.environment["DO_NOT_TRACK"] == "1"
    assert server.command[-4:] == ("--host", "127.0.0.1", "--port", "4321")
    assert process_worker.environment["LIFTLOOP_HOME"] == "/srv/home"
    assert process_worker.environment["GX_ANALYTICS_ENABLED"] == "false"
    assert process_worker.environment["FEAST_USAGE"] == "False"


def test_the_server_takes_the_password_that_its_clients_have() -> None:
    parts = parts_of(Settings())
    password = f"liftloop:{CREDENTIALS.prefect_password}"
    assert parts["prefect-server"].environment["PREFECT_SERVER_API_AUTH_STRING"] == password
    assert parts["prefect-server"].environment["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"
    assert {parts[name].environment["PREFECT_API_AUTH_STRING"] for name in ("worker", "bridge")} == {password}
    assert parts_of(Settings(prefect_auth=SecretStr("me:mine")))["worker"].environment["PREFECT_API_AUTH_STRING"] == (
        "me:mine"
    )


def test_the_store_posts_to_the_bridge_what_lands_in_its_bucket() -> None:
    environment = parts_of(Settings(bucket="ads", bridge_port=8765))["object-store"].environment
    assert environment["WEED_NOTIFICATION_WEBHOOK_ENDPOINT"] == "http://127.0.0.1:8765/landing"
    assert environment["WEED_NOTIFICATION_WEBHOOK_BEARER_TOKEN"] == CREDENTIALS.bridge_token
    assert environment["WEED_NOTIFICATION_WEBHOOK_PATH_PREFIXES"] == "/buckets/ads/landing/"


def test_the_bridge_waits_for_our_server_and_not_for_the_users() -> None:
    ours = parts_of(Settings(home=Path("/srv/home"), bridge_port=8765))["bridge"]
    assert "http://127.0.0.1:4200/api/health" in ours.command
    assert ours.command[-2:] == ("-m", "bridge")
    assert (ours.environment["LIFTLOOP_HOME"], ours.environment["LIFTLOOP_ROLE"]) == ("/srv/home", "ingest")
    assert ours.address == f"http://127.0.0.1:{ours.environment['LIFTLOOP_BRIDGE_PORT']}" == "http://127.0.0.1:8765"

    theirs = parts_of(Settings(prefect_api_url="https://prefect.example.org/api", prefect_auth=SecretStr("me:mine")))
    assert theirs["bridge"].command[1:] == ("-m", "bridge")
    assert theirs["bridge"].environment["PREFECT_API_URL"] == "https://prefect.example.org/api"
    assert theirs["bridge"].environment["PREFECT_API_AUTH_STRING"] == "me:mine"
    assert "PREFECT_HOME" not in theirs["bridge"].environment


def test_of_the_stores_sockets_those_that_nobody_listens_to_are_removed() -> None:
    settings = Settings(home=Path("/srv/home"), s3_port=22_870)
    dead, living = (Path(f"/tmp/seaweedfs-test-grpc-{port}.sock") for port in (32_870, 32_871))
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(dead))
        killed.close()
        listener.bind(str(living))
        listener.listen()
        try:
            remove_store_sockets(settings)
            assert not dead.exists()
            assert living.exists()
        finally:
            living.unlink()
