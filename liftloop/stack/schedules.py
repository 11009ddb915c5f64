"""Brings the schedules on the Prefect server in line with the contracts, and keeps what was edited there."""

from collections.abc import Collection, Mapping, Sequence, Set
from typing import Any
from urllib.error import HTTPError

from pydantic import TypeAdapter

from liftloop.contract.contract import Contract
from liftloop.contract.schedules import Timing
from liftloop.settings import Settings
from liftloop.stack.layout import Layout, write_private
from liftloop.stack.lifecycle import Progress, exclusive
from liftloop.stack.prefect_api import ask
from liftloop.storage.frozen import Frozen

FLOWS = ("train", "evaluate", "verify")  # whose deployments have schedules
_VERIFY = Timing(cron="15 4 * * *", timezone="UTC")  # of all sources, so in no contract

_Applied = dict[str, Timing]  # by slug, as declared when it was last applied
_RECORD = TypeAdapter(dict[str, _Applied])  # by the id of the deployment, which a new server or deployment changes


class Schedule(Frozen):
    """A schedule as declared; `slug` identifies it within its deployment."""

    flow: str
    slug: str
    timing: Timing
    parameters: dict[str, str]

    @property
    def body(self) -> dict[str, object]:
        """As Prefect's API takes it."""
        return {"schedule": self.timing.model_dump(), "active": True, "parameters": self.parameters, "slug": self.slug}


def update_schedules(
    settings: Settings, contracts: Sequence[Contract], invalid: Collection[str], on_progress: Progress
) -> None:
    """Add, change and remove schedules as the contracts have changed since the last call.

    A schedule whose contract declares the same as then stays as it is on the server, edited or deleted.

    Args:
        settings: of a stack whose flows are deployed; a flow that is not deployed gets no schedule.
        contracts: all that are valid.
        invalid: the sources whose contract is not; their schedules stay.
        on_progress: called with one line per schedule that is added, changed or removed.
    """
    layout, declared = Layout.of(settings), declared_schedules(contracts)
    file = layout.prefect_folder / "schedules.json"
    with exclusive(layout):
        record = _RECORD.validate_json(file.read_bytes()) if file.exists() else {}
        for flow in FLOWS:
            if deployment := _find_deployment(settings, flow):
                of_flow = {each.slug: each for each in declared if each.flow == flow}
                server = _Server(settings, deployment, on_progress)
                kept = {_slug(flow, source) for source in invalid}
                record[server.id] = server.update(of_flow, record.get(server.id), kept)
        write_private(file, _RECORD.dump_json(record, indent=2).decode())


def declared_schedules(contracts: Sequence[Contract]) -> list[Schedule]:
    """The schedules of these contracts, and the nightly verification."""
    of_contracts = [
        Schedule(flow=flow, slug=_slug(flow, contract.source), timing=timing, parameters={"source": contract.source})
        for contract in contracts
        for flow, timing in contract.schedules.timings(contract.source).items()
    ]
    return [Schedule(flow="verify", slug="nightly", timing=_VERIFY, parameters={}), *of_contracts]


def _slug(flow: str, source: str) -> str:
    return f"{flow}-{source}"


def _find_deployment(settings: Settings, flow: str) -> Any:
    try:
        return ask(settings, f"/deployments/name/{flow}/{flow}")
    except HTTPError as error:
        if error.code == 404:
            return None
        raise


class _Server:
    """The schedules of one deployment on the server."""

    def __init__(self, settings: Settings, deployment: dict[str, Any], on_progress: Progress) -> None:
        self.id = str(deployment["id"])
        self._settings, self._on_progress = settings, on_progress
        self._existing = {each["slug"]: each for each in deployment["schedules"]}

    def update(self, declared: Mapping[str, Schedule], applied: _Applied | None, kept: Set[str]) -> _Applied:
        """Make the changes; returns what is to be put on record."""
        timings = {slug: schedule.timing for slug, schedule in declared.items()}
        if applied is None:  # without a record, a difference is taken for an edit
            applied = {slug: timing for slug, timing in timings.items() if slug in self._existing}
        for schedule in declared.values():
            self._apply(schedule, applied.get(schedule.slug))
        for slug in sorted(applied.keys() - declared.keys() - kept):
            self._remove(slug)
        return {slug: timing for slug, timing in applied.items() if slug in kept} | timings

    def _apply(self, schedule: Schedule, applied: Timing | None) -> None:
        current = self._existing.get(schedule.slug)
        if applied == schedule.timing:
            if current:  # else it was deleted in the UI
                self._restore_parameters(schedule, current)
        elif current is None:
            self._ask("", [schedule.body], "POST")
            self._report(schedule.slug, str(schedule.timing))
        elif current["schedule"] | schedule.timing.model_dump() != current["schedule"] or not current["active"]:
            self._ask(current["id"], schedule.body, "PATCH")
            self._report(schedule.slug, f"{schedule.timing}, as declared now, instead of {_words(current)}")

    def _restore_parameters(self, schedule: Schedule, current: dict[str, Any]) -> None:
        """Prefect drops them in a change that does not repeat them, as its newer UI and its command line make."""
        parameters = schedule.parameters | current["parameters"]
        if parameters != current["parameters"]:
            self._ask(current["id"], {"parameters": parameters}, "PATCH")

    def _remove(self, slug: str) -> None:
        if current := self._existing.get(slug):
            self._ask(current["id"], None, "DELETE")
            self._report(slug, "removed, because no contract declares it now")

    def _ask(self, schedule: str, body: object, method: str) -> None:
        ask(self._settings, f"/deployments/{self.id}/schedules/{schedule}".rstrip("/"), body, method)

    def _report(self, slug: str, words: str) -> None:
        self._on_progress(f"schedule {slug}: {words}")


def _words(current: dict[str, Any]) -> str:
    """A schedule on the server; the UI may have made it one without a cron."""
    schedule = current["schedule"]
    timing = f"{schedule['cron']} {schedule['timezone']}" if "cron" in schedule else str(schedule)
    return timing if current["active"] else f"{timing}, inactive"
