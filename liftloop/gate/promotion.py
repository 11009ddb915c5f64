"""Promotion by verdict: a new champion, a challenger, or no change."""

from liftloop.gate.verdict import Verdict
from liftloop.registry.challenger import challenge
from liftloop.registry.promotion import promote
from liftloop.registry.registry import Registry
from liftloop.registry.versions import Pointer
from liftloop.storage.store import Store


def asks_for_promotion(verdict: Verdict, champion: Pointer | None) -> bool:
    """Whether the verdict promotes a version that is not the champion."""
    return verdict.verdict == "promote" and (champion is None or champion.version != verdict.version)


def promote_judged(store: Store, verdict: Verdict, champion: Pointer | None, run_id: str) -> None:
    """Make the judged version champion if the verdict promotes it and it is not the champion already.

    Raises:
        PromotionConflict: the champion was moved after it was read.
        RegistryError: the version is not on record, or its blobs are missing or changed.
    """
    # If an earlier attempt of this run died between promotion and record, the version is champion already.
    was_interrupted = champion is not None and (champion.run_id, champion.version) == (run_id, verdict.version)
    if asks_for_promotion(verdict, champion) or was_interrupted:
        expected = champion.etag if champion else None
        promote(Registry(store, verdict.source), verdict.version, _reason(verdict), expected, run_id)


def challenge_judged(store: Store, verdict: Verdict, champion: Pointer | None, run_id: str) -> None:
    """Make the judged version challenger if no check fails and the hold-out cannot tell whether it is better.

    Raises:
        PromotionConflict: someone else named a challenger at the same time.
        RegistryError: the version is not on record, or its blobs are missing or changed.
    """
    if verdict.verdict == "inconclusive" and champion is not None and champion.version != verdict.version:
        challenge(Registry(store, verdict.source), verdict.version, verdict.summary, run_id)


def promotion_words(verdict: Verdict, champion: Pointer | None, run_id: str) -> tuple[str, str]:
    """What became of the version that a run judged: in one word, and in a sentence with the verdict's reasons."""
    version, reasons = verdict.version, _reason(verdict).removeprefix(f"{verdict.verdict}: ")
    if champion is not None and champion.version == version and champion.run_id != run_id:
        return "Unchanged", f"{version} is the champion already; {_reason(verdict)}"
    if verdict.verdict == "promote":
        return "Promoted", f"promoted {version}: {reasons}"
    if verdict.verdict == "refuse":
        return "Refused", f"refused {version}: {reasons}"
    became = "became challenger" if champion else "did not become champion"
    return "Inconclusive", f"{version} {became}, because the evidence is inconclusive: {reasons}"


def _reason(verdict: Verdict) -> str:
    """The verdict's summary, and who approved it if the contract requires approval."""
    approvals = [f"; approved by {check.reason}" for check in verdict.checks if check.id == "approval"]
    return verdict.summary + "".join(approvals)
