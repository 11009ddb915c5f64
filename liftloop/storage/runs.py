"""Manifests: what every run reads and writes, by content hash: `runs/<flow>/<run_id>/manifest.json`."""

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
WAITING, TURN = "waiting", "turn"  # the names of steps: a run begins, and ends, to wait for another


class UnknownRunError(UserError):
    """No run on record, or more than one, has an id with this beginning."""


IngestStatus = Literal["ingested", "held", "rejected"]


class Step(Frozen):
    """One step of a run: inputs, outputs, removed keys and metrics. `is_reused`: an earlier result was reused.

    `ingest_status` is the outcome of a step that ingested one landed file, the first of its inputs: lineage reads it.
    """

    name: str
    inputs: tuple[ObjectRef, ...] = ()
    outputs: tuple[ObjectRef, ...] = ()
    removed: tuple[str, ...] = ()
    metrics: dict[str, Any] = Field(default_factory=dict)
    is_reused: bool = False
    ingest_status: IngestStatus | None = None


class Manifest(BaseModel):
    """One run of one flow. Written when it starts, after each step, and when it ends in any way."""

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
        """Objects that the run read and did not write."""
        return sorted({ref for step in self.steps for ref in step.inputs} - set(self.outputs))

    @property
    def outputs(self) -> list[ObjectRef]:
        return sorted({ref for step in self.steps for ref in step.outputs})

    @property
    def waits_behind(self) -> str | None:
        """The run that this one waits for, by name; None: it waits for none."""
        last = self.steps[-1] if self.steps and self.status == "running" else None
        return last.metrics["behind"] if last and last.name == WAITING else None

    def write(self, store: Store) -> None:
        store.put(self.key, self.model_dump_json(indent=1).encode())


Recorder = Callable[[Sequence[Step]], object]
_recorders: ContextVar[tuple[Recorder, ...]] = ContextVar("_recorders", default=())


def record(*steps: Step) -> None:
    """Append steps to the manifest of the current run; outside of a run they are not recorded."""
    for recorder in _recorders.get():
        recorder(steps)


@contextmanager
def listening(recorder: Recorder) -> Iterator[None]:
    """Pass the steps recorded inside the block to `recorder`, too."""
    token = _recorders.set((*_recorders.get(), recorder))
    try:
        yield
    finally:
        _recorders.reset(token)


@contextmanager
def recorded(
    store: Store, flow: str, run_id: str, source: str, parameters: dict[str, Any], parents: tuple[str, ...] = ()
) -> Iterator[Manifest]:
    """Write a manifest of the steps recorded inside the block: after each step, and at the end with any error.

    The manifest of a run that is resubmitted after a crash starts with the steps recorded before the crash.
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

    def append(steps: Sequence[Step]) -> None:
        manifest.steps += steps
        manifest.write(store)

    token = _recorders.set((append,))  # a nested run records its own steps
    try:
        yield manifest
        manifest.status = "completed"
    except BaseException as error:
        manifest.status = "failed"
        manifest.error = f"{type(error).__name__}: {error}"[:LONGEST_ERROR_CHARACTERS]
        raise
    finally:
        _recorders.reset(token)
        manifest.ended_at = datetime.now(UTC)
        manifest.write(store)


def mark_crashed(store: Store, flow: str, run_id: str) -> None:
    """Mark a run as crashed whose process died and that is not resubmitted."""
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
    """Every readable manifest on record, or only the ones written since a time; oldest run first."""
    items = store.list(runs_prefix(flow) if flow else RUNS)
    found = read_records(store, (item.key for item in items if since is None or item.modified >= since))
    return sorted((each for each in found.values() if each), key=lambda manifest: manifest.started_at)


def read_records(store: Store, keys: Iterable[str]) -> dict[str, Manifest | None]:
    """Manifests by key; None: the object is not a manifest, or a damaged one."""
    keys = [*keys]
    return dict(zip(keys, concurrently(partial(_read, store), keys), strict=True))


def find_manifest(store: Store, run_id: str) -> Manifest:
    """The only run whose id begins with `run_id`.

    Raises:
        UnknownRunError: there is no such run, or more than one.
    """
    found = [manifest for manifest in read_manifests(store) if manifest.run_id.startswith(run_id)]
    if len(found) != 1:
        raise UnknownRunError(f"{len(found)} runs on record begin with {run_id!r}; `liftloop runs` lists them")
    return found[0]


def code_revision(folder: Path) -> str:
    """The commit of a checkout, marked `-dirty` if files differ from it; `unknown` outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _sha256_of_file(path: Path) -> str | None:
    return sha256_of(path.read_bytes()) if path.is_file() else None
