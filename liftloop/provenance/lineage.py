"""Walk any object back to the landed files that caused it, and check that nothing on record was lost or changed."""

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
    """No run on record wrote or read such an object."""


@dataclass(frozen=True)
class Origin:
    """One object, the run and step that wrote it, and what that step had read.

    Without a run it was landed, or else its producer is unknown. An object that several steps read is followed once;
    `is_repeated` marks its later mentions.
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
    """An object that is not as the record says."""

    ref: ObjectRef
    run: str
    problem: str  # missing, changed, of unknown producer, or no manifest where there should be one


def trace(store: Store, key: str) -> Origin:
    """The newest version on record of an object, followed back to landed files by content hash.

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
    """The run that wrote an object as it is now."""
    ref = store.find(key)
    steps = _steps(store, read_manifests(store))
    return next((run for run, step in steps if ref in step.outputs), "a run that is not on record yet")


def verify(store: Store) -> tuple[int, list[Damage]]:
    """Re-hash every object that a run read or wrote, in its newest version; returns how many, and the damaged ones.

    What a run read and none wrote is damaged too, unless it was landed: its producer is unknown.
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
    damages += [Damage(ObjectRef(key, "", 0), "", "no manifest that can be read") for key in broken]
    return len(newest), damages


def _newest(steps: Sequence[tuple[str, Step]]) -> dict[str, tuple[ObjectRef, str]]:
    """By key, the version that must be there, and the first run that mentions it."""
    replaced = _replaced(steps)
    newest: dict[str, tuple[ObjectRef, str]] = {}
    for run, step in steps:
        for key in step.removed:
            newest.pop(key, None)
        for ref in _to_be_kept(step):
            if ref not in replaced and newest.get(ref.key, (None,))[0] != ref:
                newest[ref.key] = (ref, run)
    return newest


def _replaced(steps: Sequence[tuple[str, Step]]) -> set[ObjectRef]:
    """What ingests of landed files wrote, and those files, that were corrected and ingested again since."""
    ingests = [step for _, step in steps if step.ingest_status is not None]
    newest = {step.inputs[0].key: step for step in ingests if step.ingest_status == "ingested"}
    current = {ref for step in newest.values() for ref in (*step.inputs, *step.outputs)}
    former = [step for step in ingests if newest.get(step.inputs[0].key, step) != step]
    return {ref for step in former for ref in (*step.inputs, *step.outputs)} - current


def _to_be_kept(step: Step) -> tuple[ObjectRef, ...]:
    """What must be there still. Of a file that was not ingested quarantine holds a copy: it may be taken away."""
    was_refused = step.ingest_status in ("held", "rejected")
    return step.outputs if was_refused else (*step.inputs, *step.outputs)


def _steps(store: Store, manifests: Sequence[Manifest]) -> Iterator[tuple[str, Step]]:
    """Every step on record, in the order of time, with the run that it belongs to."""
    steps = [
        (manifest.started_at, f"{manifest.flow}/{manifest.run_id}", step)
        for manifest in manifests
        for step in manifest.steps
    ]
    steps += _steps_of_killed_runs(store, {part for _, _, step in steps for ref in step.outputs for part in _ids(ref)})
    for _, run, step in sorted(steps, key=itemgetter(0)):
        yield run, step


def _steps_of_killed_runs(store: Store, recorded: set[str]) -> list[tuple[datetime, str, Step]]:
    """What was ingested by runs that were killed before they put it on record: the ledger knows."""
    return [(settled_at, "ledger", ingest_step(entry)) for settled_at, entry in entries_except(store, recorded)]


def _ids(ref: ObjectRef) -> tuple[str, str]:
    """Where the id of the landed object stands in the key of a file in the lake, and of one in quarantine."""
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
