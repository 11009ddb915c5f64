"""Lineage of any object back to landed files, and verification that no recorded object is missing or changed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from operator import itemgetter
from pathlib import PurePath

from liftloop.errors import UserError
from liftloop.lake.ledger import entries_except, ingest_step
from liftloop.storage.hashing import sha256_of
from liftloop.storage.keys import LANDING, RUNS
from liftloop.storage.runs import Manifest, Step, read_manifests, read_records
from liftloop.storage.store import ObjectRef, Store, concurrently


class UnknownObjectError(UserError):
    """No run on record wrote or read an object with this key."""


@dataclass(frozen=True)
class Origin:
    """One object, the run and step that wrote it, and the inputs of that step.

    Without a run the object was landed, or its producer is unknown. An object that several steps read is followed once;
    `is_repeated` marks the other occurrences.
    """

    ref: ObjectRef
    run: str | None
    step: str | None
    inputs: list["Origin"] = field(default_factory=list)
    is_repeated: bool = False

    @property
    def is_landed(self) -> bool:
        return self.run is None and is_landed(self.ref.key)

    def ends(self) -> Iterator["Origin"]:
        """The end of every path: a landed file, or an object whose producer is unknown."""
        if self.run is None:
            yield self
        for origin in self.inputs:
            yield from origin.ends()


@dataclass(frozen=True)
class Damage:
    """An object that differs from its record."""

    ref: ObjectRef
    run: str
    problem: str  # missing, changed, unknown producer, or unreadable manifest


def trace(store: Store, key: str) -> Origin:
    """The newest version of an object on record, traced back to landed files by content hash.

    Raises:
        UnknownObjectError: no manifest mentions the key.
    """
    producers: dict[ObjectRef, tuple[str, Step]] = {}
    newest: dict[str, ObjectRef] = {}
    for run, step in _steps(store, read_manifests(store)):
        for ref in step.outputs:
            producers.setdefault(ref, (run, step))
        newest |= {ref.key: ref for ref in (*step.inputs, *step.outputs)}
    if key not in newest:
        raise UnknownObjectError(f"no run on record wrote or read {key!r}; `liftloop runs` lists the runs")
    return _origin(newest[key], producers, set())


def is_landed(key: str) -> bool:
    return key.startswith(LANDING)


def writer_of(store: Store, key: str) -> str:
    """The run that wrote the current version of an object."""
    ref = store.find(key)
    steps = _steps(store, read_manifests(store))
    return next((run for run, step in steps if ref in step.outputs), "a run that is not on record yet")


def verify(store: Store) -> tuple[int, list[Damage]]:
    """Hash the newest version of every object that a run read or wrote; returns their number, and the damaged ones.

    An object outside landing that was read but written by no run counts as damaged: its producer is unknown.
    """
    records = read_records(store, (item.key for item in store.list(RUNS)))
    steps = [*_steps(store, [record for record in records.values() if record])]
    written = {ref for _, step in steps for ref in step.outputs}
    newest = _newest(steps)
    problems = concurrently(partial(_problem, store, written), (ref for ref, _ in newest.values()))
    damages = [
        Damage(ref, run, problem)
        for (ref, run), problem in zip(newest.values(), problems, strict=True)
        if problem is not None
    ]
    broken = [key for key, record in records.items() if not record]
    damages += [Damage(ObjectRef(key, "", 0), "", "unreadable manifest") for key in broken]
    return len(newest), damages


def _newest(steps: Sequence[tuple[str, Step]]) -> dict[str, tuple[ObjectRef, str]]:
    """By key, the version that must exist, and the first run that lists it."""
    replaced = _replaced(steps)
    newest: dict[str, tuple[ObjectRef, str]] = {}
    for run, step in steps:
        for key in step.removed:
            newest.pop(key, None)
        for ref in _required(step):
            if ref not in replaced and newest.get(ref.key, (None,))[0] != ref:
                newest[ref.key] = (ref, run)
    return newest


def _replaced(steps: Sequence[tuple[str, Step]]) -> set[ObjectRef]:
    """Inputs and outputs of ingests whose landed file was corrected and ingested again later."""
    ingests = [step for _, step in steps if step.ingest_status is not None]
    newest = {step.inputs[0].key: step for step in ingests if step.ingest_status == "ingested"}
    current = {ref for step in newest.values() for ref in (*step.inputs, *step.outputs)}
    former = [step for step in ingests if newest.get(step.inputs[0].key, step) != step]
    return {ref for step in former for ref in (*step.inputs, *step.outputs)} - current


def _required(step: Step) -> tuple[ObjectRef, ...]:
    """Objects of a step that must exist. A landed file that was not ingested may be deleted: quarantine has a copy."""
    is_refused = step.ingest_status in ("held", "rejected")
    return step.outputs if is_refused else (*step.inputs, *step.outputs)


def _steps(store: Store, manifests: Sequence[Manifest]) -> Iterator[tuple[str, Step]]:
    """Every step on record with its run, in the order of time."""
    steps = [
        (manifest.started_at, f"{manifest.flow}/{manifest.run_id}", step)
        for manifest in manifests
        for step in manifest.steps
    ]
    steps += _steps_of_killed_runs(store, {part for _, _, step in steps for ref in step.outputs for part in _ids(ref)})
    for _, run, step in sorted(steps, key=itemgetter(0)):
        yield run, step


def _steps_of_killed_runs(store: Store, recorded: set[str]) -> list[tuple[datetime, str, Step]]:
    """Ingest steps of runs that were killed before they recorded them, from the ledger."""
    return [(written_at, "ledger", ingest_step(entry)) for written_at, entry in entries_except(store, recorded)]


def _ids(ref: ObjectRef) -> tuple[str, str]:
    """The parts of a key that hold the landed object's id: in the lake the first, in quarantine the second."""
    path = PurePath(ref.key)
    return path.stem, path.parent.name


def _origin(ref: ObjectRef, producers: dict[ObjectRef, tuple[str, Step]], followed: set[ObjectRef]) -> Origin:
    if ref not in producers:
        return Origin(ref, None, None)
    run, step = producers[ref]
    if ref in followed:
        return Origin(ref, run, step.name, is_repeated=True)
    followed.add(ref)
    return Origin(ref, run, step.name, [_origin(item, producers, followed) for item in step.inputs])


def _problem(store: Store, written: set[ObjectRef], ref: ObjectRef) -> str | None:
    try:
        body = store.get(ref.key)
    except KeyError:
        return "missing"
    if sha256_of(body) != ref.sha256:
        return "changed"
    return None if ref in written or is_landed(ref.key) else "unknown producer"
