"""When the next attempt is due; what is out of order is said once."""

import logging
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, StateType

from bridge.dispatch import attempt_key, has_passed, is_run_missing, list_attempts, wait_after
from bridge.faults import Faults
from bridge.runs import FlowRuns
from liftloop.errors import UserError

NOW = datetime(2026, 1, 5, tzinfo=UTC)


def test_the_first_attempt_bears_the_key_of_the_object() -> None:
    assert [attempt_key("s3://b/k#e", number) for number in (1, 2, 3)] == ["s3://b/k#e", "s3://b/k#e/2", "s3://b/k#e/3"]


def test_an_attempt_whose_run_was_deleted_leaves_its_number_taken() -> None:
    class Runs(FlowRuns):
        def __init__(self) -> None:
            """Needs no client."""

        def list_by_key(self, flow: str, idempotency_keys: list[str]) -> list[FlowRun]:
            assert flow == "ingest"
            kept = {attempt_key("k", number) for number in (2, 3, 100, 101)}
            return [FlowRun(flow_id=uuid4(), idempotency_key=key) for key in idempotency_keys if key in kept]

    assert sorted(dict(list_attempts(Runs(), "k"))) == [2, 3, 100, 101]


def test_the_wait_doubles_up_to_an_hour() -> None:
    minutes = [wait_after(attempts).total_seconds() / 60 for attempts in (1, 2, 3, 4, 5, 6, 7, 5000)]
    assert minutes == [1, 2, 4, 8, 16, 32, 60, 60]


def run_that(state: StateType, ended_seconds_ago: int) -> FlowRun:
    return FlowRun(flow_id=uuid4(), state_type=state, end_time=NOW - timedelta(seconds=ended_seconds_ago))


@pytest.mark.parametrize(
    ("begun", "expected"),
    [
        ([], True),
        ([(StateType.RUNNING, 0)], False),
        ([(StateType.COMPLETED, 300)], False),
        ([(StateType.CANCELLED, 300)], False),
        ([(StateType.FAILED, 59)], False),
        ([(StateType.FAILED, 61)], True),
        ([(StateType.CRASHED, 61)], True),
        ([(StateType.FAILED, 500), (StateType.FAILED, 61)], False),
        ([(StateType.FAILED, 500), (StateType.FAILED, 121)], True),
        ([(StateType.FAILED, 500), (StateType.COMPLETED, 400)], False),
    ],
)
def test_what_failed_is_started_again_after_a_growing_wait(begun: list[tuple[StateType, int]], expected: bool) -> None:
    assert is_run_missing([run_that(*each) for each in begun], NOW) is expected


@pytest.mark.parametrize(("since", "expected"), [(-46, True), (-45, True), (-44, False), (0, False), (1, True)])
def test_a_clock_that_was_set_back_delays_nothing(since: int, expected: bool) -> None:
    assert has_passed(NOW + timedelta(seconds=since), timedelta(seconds=45), NOW) is expected


def test_what_is_out_of_order_is_said_once_and_when_it_is_well_again(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults()
    with caplog.at_level(logging.INFO):
        for message in ("down", "down", "still down", None, None):
            with faults.survive("store"):
                if message:
                    raise UserError(message)
    assert caplog.messages == ["store: UserError: down", "store: UserError: still down", "store: recovered"]


def test_a_mistake_of_our_own_leaves_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    with Faults().survive("sweep"):
        {}["nothing"]  # type: ignore[index]
    assert caplog.records[0].exc_info
