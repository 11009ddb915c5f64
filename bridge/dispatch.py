"""What is due for one source, and whether it needs a run that nothing else has started."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count

from prefect.client.schemas.objects import FlowRun, StateType

from bridge.runs import FlowRuns
from liftloop.contract.contract import Contract
from liftloop.operations.pending_work import SourceState
from liftloop.storage.keys import landing_prefix
from liftloop.storage.store import Listed, Store

GRACE = timedelta(seconds=45)  # for the event that starts a run sooner
FIRST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(hours=1)
TRAININGS = 3  # on the same features: what fails then lacks data, more likely than a part
_KEYS_PER_QUERY = 100


def dispatch_ingest(store: Store, runs: FlowRuns, contract: Contract) -> bool:
    """Start a run if something waits in landing; only to be called while none is under way.

    One run ingests all that waits. Its idempotency key names the oldest waiting object, so that a bridge that was
    killed in between, or a second one, starts no other run.

    Returns:
        Whether there is now, or was just before, a run after which one should look again.
    """
    waiting = SourceState.read(store, contract).waiting
    if not waiting:
        return False
    oldest = waiting[0]
    base = f"{store.uri(oldest.key)}#{oldest.etag}"
    attempts = dict(attempts_on(runs, base))
    made = max(attempts, default=0)
    if attempts and _is_too_soon(made, attempts[made], _last_landed(store, contract), datetime.now(UTC)):
        return False
    why = oldest.key if not attempts else f"{oldest.key}, which still waits after {made} runs"
    runs.start("ingest", contract.source, attempt_key(base, made + 1), why)
    return True


def dispatch_features_and_training(store: Store, runs: FlowRuns, contract: Contract, *, is_ingesting: bool) -> None:
    """Start what a lost event should have started, and again what failed.

    An ingest tells of the lake's changes when it ends; while it lasts, features wait for half of their freshness.
    """
    grace = max(GRACE, contract.freshness / 2) if is_ingesting else GRACE
    source, state = contract.source, SourceState.read(store, contract)
    known, due_since = state.materialized, state.features_due_since
    if due_since is not None:
        modified = known.modified if known else None
        since = max(due_since, modified or due_since)  # what ran before that has done its part
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
    now, begun = datetime.now(UTC), runs.begun(flow, source, since)
    if has_passed(since, grace, now) and (at_most is None or len(begun) < at_most) and is_run_missing(begun, now):
        base = f"{flow}/{source}/{version}/{since:%FT%TZ}"
        key = f"{base}/after-{begun[-1].id}" if begun else base
        runs.start(flow, source, key, f"what changed at {since:%F %T} UTC")


def is_run_missing(begun: Sequence[FlowRun], now: datetime) -> bool:
    """Whether there was no run yet, or all have failed and the last of them not just now."""
    if any(run.state_type not in (StateType.FAILED, StateType.CRASHED) for run in begun):
        return False  # it is under way, has succeeded, or somebody cancelled it
    return not begun or has_passed(_ended(begun[-1], now), wait_after(len(begun)), now)


def _ended(run: FlowRun, now: datetime) -> datetime:
    return run.end_time or run.expected_start_time or now


def attempts_on(runs: FlowRuns, base: str) -> Iterator[tuple[int, FlowRun]]:
    """The runs that were made for an object, by number; some may have been deleted since."""
    for first in count(1, _KEYS_PER_QUERY):
        numbers = {attempt_key(base, number): number for number in range(first, first + _KEYS_PER_QUERY)}
        found = {numbers[str(run.idempotency_key)]: run for run in runs.find("ingest", [*numbers])}
        yield from found.items()
        if first + _KEYS_PER_QUERY - 1 not in found:
            return


def attempt_key(base: str, number: int) -> str:
    """The idempotency key of the first attempt is that of the object; later ones bear their number."""
    return base if number == 1 else f"{base}/{number}"


def _is_too_soon(attempts: int, last: FlowRun, last_landed: datetime, now: datetime) -> bool:
    """Whether nothing landed since that could make the next one go better, and the last attempt ended just now.

    What somebody cancelled is not started again until something lands.
    """
    ended = _ended(last, now)
    is_wanted = last.state_type != StateType.CANCELLED and has_passed(ended, wait_after(attempts), now)
    return last_landed < ended and not is_wanted


def wait_after(attempts: int) -> timedelta:
    """How long to wait after so many attempts: 1, 2, 4 … minutes, at most an hour."""
    doublings = min(attempts - 1, 10)
    return min(FIRST_WAIT * (1 << doublings), LONGEST_WAIT)


def has_passed(since: datetime, wait: timedelta, now: datetime) -> bool:
    """Whether so much time went by; a time in the future (a clock was set back) has passed."""
    return not timedelta(0) <= now - since < wait


def _last_landed(store: Store, contract: Contract) -> datetime:
    landed: Iterator[Listed] = store.list(landing_prefix(contract.source))
    return max(item.modified for item in landed)
