"""The addresses and keys of the embedded parts, written for our own settings, each role and the `prefect` command."""

import json
from pathlib import Path

from dotenv import dotenv_values
from pydantic import SecretStr

from liftloop.settings import Settings
from liftloop.stack.layout import HOST, Credentials, Layout, write_private
from liftloop.stack.roles import GRANTS

_MARK = "# Written by `liftloop up`"
_HEAD = f"{_MARK}, which overwrites it each time."
_PREFECT_USER = "liftloop"


def s3_url(settings: Settings) -> str:
    """The URL of the embedded object store."""
    return f"http://{HOST}:{settings.s3_port}"


def prefect_url(settings: Settings) -> str:
    """The API URL of the embedded Prefect server."""
    return f"http://{HOST}:{settings.prefect_port}/api"


def bridge_url(settings: Settings) -> str:
    """The URL of the bridge."""
    return f"http://{HOST}:{settings.bridge_port}"


def user_settings(settings: Settings) -> Settings:
    """The settings without what an earlier `up` generated; where an address is then None, we run the part."""
    generated = dotenv_values(settings.generated_file) | dotenv_values(settings.keys_file(settings.role))
    ours = [name for name, value in settings.as_environment().items() if generated.get(name) == value]
    return settings.model_copy(update={name.removeprefix("LIFTLOOP_").lower(): None for name in ours})


def running_settings(settings: Settings, credentials: Credentials) -> Settings:
    """The user's settings with the addresses and secrets of the embedded parts filled in."""
    update: dict[str, object] = {}
    if settings.bridge_token is None:
        update["bridge_token"] = SecretStr(credentials.bridge_token)
    if settings.s3_endpoint_url is None:
        update |= {
            "s3_endpoint_url": s3_url(settings),
            "s3_access_key_id": credentials.s3_access_key_id,
            "s3_secret_access_key": SecretStr(credentials.s3_secret_access_key),
        }
    if settings.prefect_api_url is None:
        made = SecretStr(f"{_PREFECT_USER}:{credentials.prefect_password}")
        update |= {"prefect_api_url": prefect_url(settings), "prefect_auth": settings.prefect_auth or made}
    return settings.model_copy(update=update)


def write_generated_file(settings: Settings, running: Settings) -> None:
    """Write the values of `running` that the user's own `settings` leave open, for `load_settings`."""
    found = {name: value for name, value in running.as_environment().items() if name not in settings.as_environment()}
    _write_variables(settings.generated_file, found)


def write_keys_files(running: Settings, credentials: Credentials) -> None:
    """Write each role's keys for the embedded store, for `Settings.as_role`."""
    names = ("LIFTLOOP_S3_ENDPOINT_URL", "LIFTLOOP_S3_ACCESS_KEY_ID", "LIFTLOOP_S3_SECRET_ACCESS_KEY")
    for role in GRANTS:
        keys = credentials.keys(role)
        theirs = running.with_keys(role, keys.access_key_id, keys.secret_access_key).as_environment()
        _write_variables(running.keys_file(role), {name: theirs[name] for name in names})


def _write_variables(file: Path, values: dict[str, str]) -> None:
    write_private(file, "\n".join([_HEAD, *(f"{name}={value}" for name, value in values.items()), ""]))


def write_prefect_toml(file: Path, settings: Settings, running: Settings, layout: Layout) -> bool:
    """Point the `prefect` command in this folder to the embedded server and to our own Prefect home.

    If the user runs their own Prefect server, the file is removed, and the user's own profile applies again.

    Returns:
        False if the file is the user's own, which is left unchanged.
    """
    if file.exists() and not file.read_text().startswith(_MARK):
        return False
    if settings.prefect_api_url is None:
        write_private(file, _prefect_toml(running.as_environment(), layout))
    else:
        file.unlink(missing_ok=True)
    return True


def _prefect_toml(running: dict[str, str], layout: Layout) -> str:
    url, auth = (json.dumps(running[name]) for name in ("LIFTLOOP_PREFECT_API_URL", "LIFTLOOP_PREFECT_AUTH"))
    home, profiles = (
        json.dumps(str(path)) for path in (layout.prefect_folder, layout.prefect_folder / "profiles.toml")
    )
    return (
        f"{_HEAD}\nhome = {home}\nprofiles_path = {profiles}\n\n"
        f"[api]\nurl = {url}\nauth_string = {auth}\n\n[server]\nanalytics_enabled = false\n"
    )
