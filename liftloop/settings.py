"""Where each part runs. Every part is embedded unless a setting points elsewhere."""

import os
import re
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from liftloop.errors import UserError
from liftloop.project import PROJECT_VARIABLE, find_project

ONE_PROCESS = "one-process"

Role = Literal["operator", "ingest", "train", "serve", "audit"]


class SettingsError(UserError):
    """A setting is unknown or has an invalid value; the message says which and what to do."""


class Settings(BaseSettings):
    """Read from `LIFTLOOP_*` in the environment, then the project's `.env`, then what `liftloop up` generated."""

    model_config = SettingsConfigDict(env_prefix="LIFTLOOP_", extra="forbid", frozen=True)

    home: Path = Path(".liftloop")
    role: Role = "operator"  # which of the embedded store's identities this process uses
    bucket: str = "liftloop"
    s3_endpoint_url: str | None = None  # None: the embedded SeaweedFS
    s3_access_key_id: str | None = None
    s3_secret_access_key: SecretStr | None = None
    s3_region: str = "us-east-1"
    s3_port: int = Field(default=8333, ge=1024, le=55_531)  # also the next four, and all five plus 10,000
    prefect_api_url: str | None = None  # None: the embedded Prefect server
    prefect_port: int = 4200
    prefect_auth: SecretStr | None = None  # "user:password" of the Prefect server; None: `up` generates its own
    bridge_port: int = 8340  # receives notices of landed objects
    bridge_token: SecretStr | None = None  # that notices must carry; None: `up` generates one
    dask_scheduler: str | None = None  # None: a local cluster; "one-process"; or a scheduler's address
    dask_workers: int = 2
    dask_worker_memory_bytes: int | None = Field(default=None, ge=2**28)  # of a local cluster; None: an equal share
    dask_collective_seconds: int = Field(default=900, ge=1)  # how long the workers of a fit wait for a late one
    device: Literal["cpu", "cuda"] = "cpu"  # that XGBoost trains on, in every worker
    redis_url: str | None = None  # None: online features in SQLite
    feast_registry_url: str | None = None  # None: a SQL registry on SQLite
    max_expanded_bytes: int = Field(default=4 * 2**30, ge=2**20)  # of a landed file once unpacked; larger: rejected
    min_free_bytes: int = 2**30  # the embedded stack does not start with less free disk space

    @property
    def has_dask_scheduler(self) -> bool:
        """Whether an external scheduler is set: a local cluster gains nothing where DuckDB already uses every core."""
        return self.dask_scheduler not in (None, ONE_PROCESS)

    @property
    def online_database(self) -> Path:
        """The embedded online store. `online.db` next to it may be Feast's own, from earlier versions."""
        return self.home.absolute() / "feast" / "online_features.db"

    @cached_property
    def generated_file(self) -> Path:
        """The file that `liftloop up` writes: credentials and addresses of the embedded parts, mode 0600."""
        return self.home / "stack.env"

    def as_environment(self) -> dict[str, str]:
        """The `LIFTLOOP_*` environment variables of these settings, with secrets in plain text."""
        return {
            f"LIFTLOOP_{name.upper()}": _plain(value)
            for name in type(self).model_fields
            if (value := getattr(self, name)) is not None
        }

    def keys_file(self, role: Role) -> Path:
        """The file that `liftloop up` writes for each role except operator: the store's address and the role's keys."""
        return self.home / "keys" / f"{role}.env"

    def as_role(self, role: Role) -> Self:
        """The settings with the role's keys if there are keys for this store; otherwise unchanged."""
        keys = dotenv_values(self.keys_file(role))
        if self.s3_endpoint_url is None or keys.get("LIFTLOOP_S3_ENDPOINT_URL") != self.s3_endpoint_url:
            return self
        return self.with_keys(role, str(keys["LIFTLOOP_S3_ACCESS_KEY_ID"]), str(keys["LIFTLOOP_S3_SECRET_ACCESS_KEY"]))

    def with_keys(self, role: Role, access_key_id: str, secret_access_key: str) -> Self:
        """The settings with these keys."""
        keys = {"s3_access_key_id": access_key_id, "s3_secret_access_key": SecretStr(secret_access_key)}
        return self.model_copy(update={"role": role, **keys})


def load_settings() -> Settings:
    """The project's settings, with the keys of the role; `home` is absolute.

    Raises:
        SettingsError: a key is unknown or a value cannot be read.
    """
    root = find_project().root
    home = root / os.environ.get("LIFTLOOP_HOME", ".liftloop")
    _require_known_variables()
    try:
        settings = Settings(home=home, _env_file=(home / "stack.env", root / ".env"))
        return settings.as_role(settings.role)
    except ValidationError as error:
        first = error.errors()[0]
        key = "LIFTLOOP_" + "_".join(str(part) for part in first["loc"]).upper().removeprefix("LIFTLOOP_")
        raise SettingsError(
            f"{key}={_shown(key, first['input'])}: {first['msg']}. Correct it in .env or in the environment;"
            f" known: {_known()}"
        ) from None


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _shown(name: str, value: object) -> str:
    """The value, unless the name suggests a secret."""
    return "…" if re.search("SECRET|KEY|TOKEN|AUTH|PASS", name) else repr(value)


def _known() -> str:
    return ", ".join(f"LIFTLOOP_{name.upper()}" for name in Settings.model_fields)


def _require_known_variables() -> None:
    known = {PROJECT_VARIABLE} | {f"LIFTLOOP_{name.upper()}" for name in Settings.model_fields}
    for name in sorted(os.environ):
        if name.startswith("LIFTLOOP_") and name not in known:
            raise SettingsError(
                f"{name}={_shown(name, os.environ[name])} is not a setting. Remove it; known: {_known()}"
            )
