"""Where the embedded stack keeps its files, and its generated secrets."""

import hashlib
import os
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError

from liftloop.errors import UserError
from liftloop.project import find_project
from liftloop.settings import Role, Settings
from liftloop.storage.frozen import Frozen

HOST = "127.0.0.1"

# Linux refuses socket paths of 108 bytes, macOS of 104; supervisor binds `<path>.<pid>` first.
_LONGEST_SOCKET_PATH = 90


class StackError(UserError):
    """The embedded stack cannot do what was asked; the message is one line with the reason and the remedy."""


@dataclass(frozen=True)
class Layout:
    """The folders and files of one embedded stack. All paths are absolute, with links resolved."""

    home: Path  # contains everything below, mode 0700
    project: Path  # the worker's working directory, with flows, contracts and `.env`

    @classmethod
    def of(cls, settings: Settings, project: Path | None = None) -> Self:
        return cls(settings.home.resolve(), (project or find_project().root).resolve())

    @property
    def lock_file(self) -> Path:
        return self.home / "lock"

    @property
    def credentials_file(self) -> Path:
        return self.home / "credentials.json"

    @property
    def prefect_folder(self) -> Path:
        return self.home / "prefect"

    @property
    def keys_folder(self) -> Path:
        return self.home / "keys"

    @property
    def certificate_file(self) -> Path:
        return self.keys_folder / "store.pem"

    @property
    def certificate_key_file(self) -> Path:
        return self.keys_folder / "store.key"

    @property
    def store_folder(self) -> Path:
        return self.home / "seaweedfs"

    @property
    def temporary_folder(self) -> Path:
        """The temporary folder of the parts and their child processes; removed when the stack stops."""
        return self.home / "tmp"

    @property
    def log_folder(self) -> Path:
        return self.home / "logs"

    @property
    def supervisor_folder(self) -> Path:
        return self.home / "supervisor"

    @property
    def config_file(self) -> Path:
        return self.supervisor_folder / "supervisord.conf"

    @property
    def socket(self) -> Path:
        """Supervisor's control socket; its path also identifies our processes."""
        return self.socket_folder / "supervisord.sock"

    @cached_property
    def socket_folder(self) -> Path:
        """Next to the configuration, or a private folder in /tmp if that path is too long for a socket."""
        if len(os.fsencode(self.supervisor_folder / "supervisord.sock")) <= _LONGEST_SOCKET_PATH:
            return self.supervisor_folder
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        return Path("/tmp") / f"liftloop-{os.getuid()}-{digest}"

    def log_file(self, name: str) -> Path:
        return self.log_folder / f"{name}.log"

    def create(self) -> None:
        """Create the folders, accessible to their owner only.

        Raises:
            StackError: they cannot be written, or the socket folder in /tmp belongs to someone else.
        """
        folders = (
            self.prefect_folder,
            self.store_folder,
            self.keys_folder,
            self.log_folder,
            self.supervisor_folder,
            self.temporary_folder,
        )
        try:
            for folder in (self.home, *folders, self.socket_folder):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.lock_file.touch()
        except OSError as error:
            raise StackError(
                f"{self.home} cannot be written ({error.strerror}): set LIFTLOOP_HOME to a folder of yours"
            ) from None
        if self.socket_folder.stat().st_uid != os.getuid():
            raise StackError(f"{self.socket_folder} belongs to another user: set LIFTLOOP_HOME to a shorter path")

    def remove_temporary_folders(self) -> None:
        """Remove our temporary folder and our files in /tmp."""
        shutil.rmtree(self.temporary_folder, ignore_errors=True)
        if self.socket_folder != self.supervisor_folder:
            shutil.rmtree(self.socket_folder, ignore_errors=True)


def _random(size_bytes: int) -> Any:
    return Field(default_factory=partial(secrets.token_hex, size_bytes), repr=False)


class S3Keys(Frozen):
    """The keys with which one identity signs its requests."""

    access_key_id: str = _random(10)
    secret_access_key: str = _random(20)


class RoleKeys(Frozen):
    """The keys of each role except operator."""

    ingest: S3Keys = Field(default_factory=S3Keys)
    train: S3Keys = Field(default_factory=S3Keys)
    serve: S3Keys = Field(default_factory=S3Keys)
    audit: S3Keys = Field(default_factory=S3Keys)


class Credentials(Frozen):
    """The secrets of the embedded parts: generated by the first `up`, stored next to their data."""

    s3_access_key_id: str = _random(10)  # the operator's
    s3_secret_access_key: str = _random(20)
    s3_roles: RoleKeys = Field(default_factory=RoleKeys)
    volume_key: str = _random(32)
    volume_read_key: str = _random(32)
    filer_write_key: str = _random(32)
    filer_read_key: str = _random(32)
    prefect_password: str = _random(16)
    bridge_token: str = _random(32)

    def keys(self, role: Role) -> S3Keys:
        """The keys of a role, including operator."""
        if role == "operator":
            return S3Keys(access_key_id=self.s3_access_key_id, secret_access_key=self.s3_secret_access_key)
        keys: S3Keys = getattr(self.s3_roles, role)
        return keys

    @classmethod
    def load(cls, file: Path) -> Self:
        """The credentials in `file`, or new ones if it does not exist.

        Raises:
            StackError: the file is damaged.
        """
        try:
            return cls.model_validate_json(file.read_text()) if file.exists() else cls()
        except ValidationError:
            raise StackError(f"{file} is damaged: delete it to generate new credentials; the data stays") from None

    def write(self, file: Path) -> None:
        write_private(file, self.model_dump_json(indent=2))


def write_private(file: Path, text: str) -> None:
    """Replace `file` atomically if its content differs; only its owner can read or write it."""
    if file.exists() and file.read_text() == text:
        return
    with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=f".{file.name}.", delete=False) as draft:
        draft.write(text)  # created with mode 0600
    os.replace(draft.name, file)


def last_line(text: str) -> str:
    """The last line that is not blank."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no output")
