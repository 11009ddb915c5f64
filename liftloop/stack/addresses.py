"""Tells everyone where the embedded parts are: our own settings, and the plain `prefect` command."""

import json
from pathlib import Path

from dotenv import dotenv_values
from pydantic import SecretStr

from liftloop.settings import Settings
from liftloop.stack.layout import Credentials, Layout, write_private
from liftloop.stack.parts import prefect_url, s3_url

_HEAD = "# Written by `liftloop up`, which writes it anew each time."


def variables(settings: Settings) -> dict[str, str]:
    """The settings as `LIFTLOOP_*` environment variables, secrets in the clear."""
    return {
        f"LIFTLOOP_{name.upper()}": _plain(value)
        for name in type(settings).model_fields
        if (value := getattr(settings, name)) is not None
    }


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def user_settings(settings: Settings) -> Settings:
    """The settings without what an earlier `up` wrote: an address that is still None is ours to serve."""
    generated = dotenv_values(settings.generated_file)
    ours = [name for name, value in variables(settings).items() if generated.get(name) == value]
    return settings.model_copy(update={name.removeprefix("LIFTLOOP_").lower(): None for name in ours})


def running_settings(settings: Settings, credentials: Credentials) -> Settings:
    """The user's settings with the addresses and keys of the embedded parts filled in."""
    update: dict[str, object] = {}
    if settings.s3_endpoint_url is None:
        update |= {
            "s3_endpoint_url": s3_url(settings),
            "s3_access_key_id": credentials.s3_access_key_id,
            "s3_secret_access_key": SecretStr(credentials.s3_secret_access_key),
        }
    if settings.prefect_api_url is None:
        update |= {"prefect_api_url": prefect_url(settings)}
    return settings.model_copy(update=update)


def write_generated_file(settings: Settings, running: Settings) -> None:
    """Write, for `load_settings`, what `running` knows and the user's own `settings` leave open."""
    found = {name: value for name, value in variables(running).items() if name not in variables(settings)}
    write_private(settings.generated_file, "\n".join([_HEAD, *(f"{name}={found[name]}" for name in found), ""]))


def write_prefect_toml(file: Path, settings: Settings, layout: Layout) -> bool:
    """Lead the plain `prefect` command in this folder to the embedded server and to no home but ours.

    With a Prefect server of the user's own, the file goes, and the user's own profile counts again.

    Returns:
        False where the file is the user's own, which is left as it is.
    """
    if file.exists() and not file.read_text().startswith(_HEAD):
        return False
    if settings.prefect_api_url is None:
        write_private(file, _prefect_toml(prefect_url(settings), layout))
    else:
        file.unlink(missing_ok=True)
    return True


def _prefect_toml(address: str, layout: Layout) -> str:
    home, profiles = (
        json.dumps(str(path)) for path in (layout.prefect_folder, layout.prefect_folder / "profiles.toml")
    )
    return (
        f"{_HEAD}\nhome = {home}\nprofiles_path = {profiles}\n\n"
        f"[api]\nurl = {json.dumps(address)}\n\n[server]\nanalytics_enabled = false\n"
    )
