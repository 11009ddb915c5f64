"""Which verdicts move the champion, and what the audit trail then says."""

import pytest
from lib.memory_store import MemoryStore
from lib.model_versions import put_version

from liftloop.gate.promotion import asks_for_promotion, challenge_judged, promote_judged, promotion_words
from liftloop.gate.verdict import Check, CheckVerdict, Verdict
from liftloop.registry.challenger import challenger
from liftloop.registry.promotion import promote, read_audit
from liftloop.registry.registry import Registry
from liftloop.storage.runs import Step, listening
from liftloop.storage.store import Store


def verdict_on(version: str, found: CheckVerdict = "pass", *, approver: str = "") -> Verdict:
    checks = [Check(found, "as it is", "1", "1", id="accuracy", title="accuracy")]
    if approver:
        checks.append(Check("pass", approver, "promote", "promote", id="approval", title="approval"))
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


@pytest.fixture
def store() -> Store:
    """With two versions on record."""
    store = MemoryStore()
    for name in ("v1", "v2"):
        put_version(store, "shop", name)
    return store


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
    store: Store, found: CheckVerdict, champion: str | None, expected: bool
) -> None:
    holder = promote(Registry(store, "shop"), champion, "the first", None, "earlier") if champion else None
    verdict = verdict_on("v2", found)
    assert asks_for_promotion(verdict, holder) is expected
    promote_judged(store, verdict, holder, "r1")
    assert len(read_audit(Registry(store, "shop"))) == (holder is not None) + expected


def test_a_run_that_died_between_promotion_and_record_promotes_once(store: Store) -> None:
    promote_judged(store, verdict_on("v1"), None, "r1")
    holder = Registry(store, "shop").champion()
    steps: list[Step] = []
    with listening(steps.extend):
        promote_judged(store, verdict_on("v1"), holder, "r1")
    assert [step.name for step in steps] == ["promote"]
    promote_judged(store, verdict_on("v2", "fail"), holder, "r1")
    promote_judged(store, verdict_on("v1"), holder, "r2")
    assert len(read_audit(Registry(store, "shop"))) == 1


@pytest.mark.parametrize(
    ("found", "holder"), [("pass", "v1"), ("fail", "v1"), ("inconclusive", None), ("inconclusive", "v2")]
)
def test_who_is_no_challenger(store: Store, found: CheckVerdict, holder: str | None) -> None:
    pointer = promote(Registry(store, "shop"), holder, "the first", None) if holder else None
    challenge_judged(store, verdict_on("v2", found), pointer, "r1")
    assert challenger(Registry(store, "shop")) is None


def test_who_is_challenger(store: Store) -> None:
    challenge_judged(
        store, verdict_on("v2", "inconclusive"), promote(Registry(store, "shop"), "v1", "the first", None), "r1"
    )
    made = challenger(Registry(store, "shop"))
    assert made is not None
    assert (made.version, made.run_id) == ("v2", "r1")


@pytest.mark.parametrize(("approver", "ending"), [("", "none failed"), ("Ada: fine", "; approved by Ada: fine")])
def test_the_audit_trail_names_who_approved(store: Store, approver: str, ending: str) -> None:
    promote_judged(store, verdict_on("v1", approver=approver), None, "r1")
    assert read_audit(Registry(store, "shop"))[-1].pointer.reason.endswith(ending)


@pytest.mark.parametrize(
    ("found", "holder", "name", "words"),
    [
        ("pass", None, "Promoted", "promoted v2: 1 checks passed, none failed"),
        ("pass", "v1", "Promoted", "promoted v2: 1 checks passed, none failed"),
        ("pass", "v2", "Unchanged", "v2 is the champion already; promote: 1 checks passed, none failed"),
        ("fail", "v1", "Refused", "refused v2: accuracy: as it is"),
        (
            "inconclusive",
            "v1",
            "Inconclusive",
            "v2 became challenger, because the evidence is inconclusive: accuracy: as it is",
        ),
        (
            "inconclusive",
            None,
            "Inconclusive",
            "v2 did not become champion, because the evidence is inconclusive: accuracy: as it is",
        ),
    ],
)
def test_a_run_says_what_became_of_its_version(
    store: Store, found: CheckVerdict, holder: str | None, name: str, words: str
) -> None:
    pointer = promote(Registry(store, "shop"), holder, "the first", None, "earlier") if holder else None
    assert promotion_words(verdict_on("v2", found), pointer, "r1") == (name, words)


def test_a_run_that_was_interrupted_after_its_promotion_says_that_it_promoted(store: Store) -> None:
    promote_judged(store, verdict_on("v1"), None, "r1")
    assert promotion_words(verdict_on("v1"), Registry(store, "shop").champion(), "r1")[0] == "Promoted"
