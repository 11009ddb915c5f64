"""Which verdicts move the champion, and what the audit trail then says."""

from datetime import UTC, datetime

import pytest

from liftloop.gate.verdict import Check, CheckVerdict, Verdict
from liftloop.registry.versions import Pointer
from tasks.registry import challenge, is_promotion, promote, reason_of, was_interrupted


def verdict_on(version: str, found: CheckVerdict = "pass", *, approver: str = "") -> Verdict:
    checks = [Check(name="accuracy", observed="1", threshold="1", verdict=found, reason="as it is")]
    if approver:
        checks.append(Check(name="approval", observed="promote", threshold="promote", verdict="pass", reason=approver))
    return Verdict(
        source="shop",
        version=version,
        champion=None,
        fingerprint="f",
        rows=1,
        rewards=1,
        scores={},
        checks=tuple(checks),
    )


def pointer_to(version: str, run_id: str) -> Pointer:
    return Pointer(
        number=1, version=version, since=datetime(2026, 1, 5, tzinfo=UTC), reason="", previous=None, run_id=run_id
    )


@pytest.mark.parametrize(
    ("found", "champion", "expected"),
    [
        ("pass", None, True),
        ("pass", "v1", True),
        ("pass", "v2", False),
        ("fail", "v1", False),
        ("inconclusive", None, False),
    ],
)
def test_only_what_the_gate_promotes_and_is_not_champion_yet(
    found: CheckVerdict, champion: str | None, expected: bool
) -> None:
    assert is_promotion(verdict_on("v2", found), pointer_to(champion, "r") if champion else None) is expected


def test_a_run_that_moved_the_champion_to_another_version_gets_no_second_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", "r1")
    assert was_interrupted(verdict_on("v1"), pointer_to("v1", "r1"))
    assert not was_interrupted(verdict_on("v2"), pointer_to("v1", "r1"))
    assert not was_interrupted(verdict_on("v1"), pointer_to("v1", "r2"))
    assert promote.fn(verdict_on("v2", "fail"), pointer_to("v1", "r1")) == []


@pytest.mark.parametrize(
    ("found", "champion"), [("pass", "v1"), ("fail", "v1"), ("inconclusive", None), ("inconclusive", "v2")]
)
def test_who_is_no_challenger(found: CheckVerdict, champion: str | None) -> None:
    assert challenge.fn(verdict_on("v2", found), pointer_to(champion, "r") if champion else None) == []


def test_the_audit_trail_names_who_approved() -> None:
    assert reason_of(verdict_on("v1")) == "promote: 1 checks passed, none failed"
    assert reason_of(verdict_on("v1", approver="Ada: fine")).endswith("; approved by Ada: fine")
