"""Starts the runs that are due for one source and that nothing else has started."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count

from prefect.client.schemas.objects import FlowRun, StateType

from bridge.runs import FlowRuns
from liftloop.contract.contract import Contract
from liftloop.operations.pending_work import SourceState
from liftloop.reporting.words import counted
from liftloop.storage.keys import landing_prefix
from liftloop.storage.store import Listed, Store

GRACE = timedelta(seconds=45)  # for the event that normally starts the run
FIRST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(hours=1)
TRAININGS = 3  # on the same features: after that, the cause is more likely the data than a failed part
_KEYS_PER_QUERY = 100


def dispatch_ingest(store: Store, runs: FlowRuns, contract: Contract) -> bool:
    """Start a run if objects wait in landing. Call only while no ingest of the source is under way.

    One run ingests everything that waits. Its idempotency key names the oldest waiting object, so that a second bridge,
    or one restarted after a kill, starts no second run.

    Returns:
        Whether a run now exists, or just existed, so that landing should be checked again afterwards.
    """
    state = SourceState.read(store, contract)
    if not state.waiting:
        return False
    oldest = state.waiting[0]
    base = f"{store.uri(oldest.key)}#{state.landed.object_id(oldest)}"
    attempts = dict(list_attempts(runs, base))
    made = max(attempts, default=0)
    if attempts and _is_too_soon(made, attempts[made], _last_landed(store, contract), datetime.now(UTC)):
        return False
    why = oldest.key if not attempts else f"{oldest.key}, still waiting after {counted(made, 'run')}"
    runs.start("ingest", contract.source, attempt_key(base, made + 1), why)
    return True


def dispatch_features_and_training(store: Store, runs: FlowRuns, contract: Contract, *, is_ingesting: bool) -> None:
    """Start runs whose event was lost, and retry runs that failed.

    An ingest announces the lake's changes when it ends; while it runs, features wait for half of their freshness.
    """
    grace = max(GRACE, contract.freshness / 2) if is_ingesting else GRACE
    source, state = contract.source, SourceState.read(store, contract)
    known, due_since = state.materialized, state.features_due_since
    if due_since is not None:
        modified = known.modified if known else None
        since = max(due_since, modified or due_since)  # earlier runs have done their part
        _catch_up(runs, "materialize", source, state.lake.version, since, grace)
    elif known is not None and known.retraining is not None and known.modified is not None:
        _catch_up(runs, "train", source, known.lake_version, known.modified, GRACE, at_most=TRAININGS)


def _catch_up(
    runs: FlowRuns,
    flow: str,
    source: str,
    version: str,
    since: datetime,
    grace: timedelta,
    at_most: int | None = None,
) -> None:
    now, started = datetime.now(UTC), runs.list_since(flow, source, since)
    if has_passed(since, grace, now) and (at_most is None or len(started) < at_most) and is_run_missing(started, now):
        base = f"{flow}/{source}/{version}/{since:%FT%TZ}"
        key = f"{base}/after-{started[-1].id}" if started else base
        runs.start(flow, source, key, f"changes at {since:%F %T} UTC")


def is_run_missing(started: Sequence[FlowRun], now: datetime) -> bool:
    """Whether there is no run yet, or all runs failed and the wait after the last one has passed."""
    if any(run.state_type not in (StateType.FAILED, StateType.CRASHED) for run in started):
        return False  # one is under way, has succeeded, or was cancelled by a person
    return not started or has_passed(_ended(started[-1], now), wait_after(len(started)), now)


def _ended(run: FlowRun, now: datetime) -> datetime:
    return run.end_time or run.expected_start_time or now


def list_attempts(runs: FlowRuns, base: str) -> Iterator[tuple[int, FlowRun]]:
    """The runs started for an object, by number of the attempt; some may have been deleted since."""
    for first in count(1, _KEYS_PER_QUERY):
        numbers = {attempt_key(base, number): number for number in range(first, first + _KEYS_PER_QUERY)}
        found = {numbers[str(run.idempotency_key)]: run for run in runs.list_by_key("ingest", [*numbers])}
        yield from found.items()
        if first + _KEYS_PER_QUERY - 1 not in found:
            return


def attempt_key(base: str, number: int) -> str:
    """The idempotency key of an attempt: the object's own for the first, with the number appended for later ones."""
    return base if number == 1 else f"{base}/{number}"


def _is_too_soon(attempts: int, last: FlowRun, last_landed: datetime, now: datetime) -> bool:
    """Whether nothing has landed since the last attempt ended, and the wait after it has not passed.

    A run that a person cancelled is not repeated until something lands.
    """
    ended = _ended(last, now)
    is_retry_due = last.state_type != StateType.CANCELLED and has_passed(ended, wait_after(attempts), now)
    return last_landed < ended and not is_retry_due


def wait_after(attempts: int) -> timedelta:
    """How long to wait after this many attempts: 1, 2, 4 … minutes, at most an hour."""
    doublings = min(attempts - 1, 10)
    return min(FIRST_WAIT * (1 << doublings), LONGEST_WAIT)


def has_passed(since: datetime, wait: timedelta, now: datetime) -> bool:
    """Whether this much time has passed; a start in the future (a clock was set back) counts as passed."""
    return not timedelta(0) <= now - since < wait


def _last_landed(store: Store, contract: Contract) -> datetime:
    landed: Iterator[Listed] = store.list(landing_prefix(contract.source))
    return max(item.modified for item in landed)
