"""What every run read and wrote, by content hash: `runs/<flow>/<run_id>/manifest.json`."""

import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from liftloop.errors import UserError
from liftloop.project import find_project
from liftloop.storage.frozen import Frozen
from liftloop.storage.hashing import sha256_of
from liftloop.storage.keys import RUNS, manifest_key, runs_prefix
from liftloop.storage.store import ObjectRef, Store, concurrently

LONGEST_ERROR_CHARACTERS = 2000


class UnknownRunError(UserError):
    """No single run on record has this id."""


IngestStatus = Literal["ingested", "held", "rejected"]


class Step(Frozen):
    """One step of a run: what it read, wrote, took away and measured. `is_reused`: nothing had to be computed.

    `ingest_status` is set by a step that settled one landed file, the first of its inputs: lineage reads it.
    """

    name: str
    inputs: tuple[ObjectRef, ...] = ()
    outputs: tuple[ObjectRef, ...] = ()
    removed: tuple[str, ...] = ()
    metrics: dict[str, Any] = Field(default_factory=dict)
    is_reused: bool = False
    ingest_status: IngestStatus | None = None


class Manifest(BaseModel):
    """One run of one flow. Written when it starts, after each step, and when it ends, whatever the end."""

    model_config = ConfigDict(extra="forbid")

    flow: str
    run_id: str
    source: str
    status: Literal["running", "completed", "failed", "crashed"] = "running"
    started_at: datetime
    ended_at: datetime | None = None
    parameters: dict[str, Any] = {}
    parents: tuple[str, ...] = ()
    steps: list[Step] = []
    error: str | None = None
    code_revision: str
    lock_sha256: str | None
    contract_sha256: str | None = None

    @property
    def key(self) -> str:
        return manifest_key(self.flow, self.run_id)

    @property
    def inputs(self) -> list[ObjectRef]:
        """What came from outside the run."""
        return sorted({ref for step in self.steps for ref in step.inputs} - set(self.outputs))

    @property
    def outputs(self) -> list[ObjectRef]:
        return sorted({ref for step in self.steps for ref in step.outputs})

    def write(self, store: Store) -> None:
        store.put(self.key, self.model_dump_json(indent=1).encode())


Keep = Callable[[Sequence[Step]], object]
_keepers: ContextVar[tuple[Keep, ...]] = ContextVar("_keepers", default=())


def record(*steps: Step) -> None:
    """Append steps to the record of the run that is under way; outside of a run nothing keeps them."""
    for keep in _keepers.get():
        keep(steps)


@contextmanager
def listening(keep: Keep) -> Iterator[None]:
    """Hand the steps that are recorded meanwhile to `keep`, too."""
    token = _keepers.set((*_keepers.get(), keep))
    try:
        yield
    finally:
        _keepers.reset(token)


@contextmanager
def recorded(
    store: Store, flow: str, run_id: str, source: str, parameters: dict[str, Any], parents: tuple[str, ...] = ()
) -> Iterator[Manifest]:
    """Keep a manifest of what is recorded meanwhile; it is written after each step, and at the end with any error.

    A run that is resubmitted after a crash keeps the steps that it had put on record.
    """
    project = find_project()
    manifest = Manifest(
        flow=flow,
        run_id=run_id,
        source=source,
        started_at=datetime.now(UTC),
        parameters=parameters,
        parents=parents,
        code_revision=code_revision(project.root),
        lock_sha256=_sha256_of_file(project.lock_file),
        contract_sha256=_sha256_of_file(project.contracts_folder / f"{source}.yaml"),
    )
    if (before := _read(store, manifest.key)) is not None:
        manifest.steps = before.steps
    manifest.write(store)

    def keep(steps: Sequence[Step]) -> None:
        manifest.steps += steps
        manifest.write(store)

    token = _keepers.set((keep,))  # a run within a run keeps its own steps
    try:
        yield manifest
        manifest.status = "completed"
    except BaseException as error:
        manifest.status = "failed"
        manifest.error = f"{type(error).__name__}: {error}"[:LONGEST_ERROR_CHARACTERS]
        raise
    finally:
        _keepers.reset(token)
        manifest.ended_at = datetime.now(UTC)
        manifest.write(store)


def mark_crashed(store: Store, flow: str, run_id: str) -> None:
    """Say of a run whose process died, and that is not tried again, that it crashed."""
    manifest = _read(store, manifest_key(flow, run_id))
    if manifest is not None and manifest.status == "running":
        manifest.status, manifest.ended_at = "crashed", datetime.now(UTC)
        manifest.write(store)


def _read(store: Store, key: str) -> Manifest | None:
    try:
        return Manifest.model_validate_json(store.get(key))
    except (KeyError, ValidationError):
        return None


def read_manifests(store: Store, flow: str | None = None, since: datetime | None = None) -> list[Manifest]:
    """Every run on record that can be read, or those that were written to since a time; oldest first."""
    items = store.list(runs_prefix(flow) if flow else RUNS)
    found = read_records(store, (item.key for item in items if since is None or item.modified >= since))
    return sorted((each for each in found.values() if each), key=lambda manifest: manifest.started_at)


def read_records(store: Store, keys: Iterable[str]) -> dict[str, Manifest | None]:
    """By key, what lies under `runs/`; None: no manifest, whoever put it there, or a damaged one."""
    keys = [*keys]
    return dict(zip(keys, concurrently(partial(_read, store), keys), strict=True))


def find_manifest(store: Store, run_id: str) -> Manifest:
    """The one run whose id begins so.

    Raises:
        UnknownRunError: there is none, or more than one.
    """
    found = [manifest for manifest in read_manifests(store) if manifest.run_id.startswith(run_id)]
    if len(found) != 1:
        raise UnknownRunError(f"{len(found)} runs on record begin with {run_id!r}; `liftloop runs` lists them")
    return found[0]


def code_revision(folder: Path) -> str:
    """The commit that runs in a folder, marked when files differ from it; `unknown` outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _sha256_of_file(path: Path) -> str | None:
    return sha256_of(path.read_bytes()) if path.is_file() else None
