"""What a verdict leads to: another champion, a challenger, or nothing."""

from liftloop.gate.verdict import Verdict
from liftloop.registry.challenger import challenge
from liftloop.registry.promotion import promote
from liftloop.registry.registry import Registry
from liftloop.registry.versions import Pointer
from liftloop.storage.store import Store


def asks_for_promotion(verdict: Verdict, champion: Pointer | None) -> bool:
    """Whether the verdict asks for another champion than there is."""
    return verdict.verdict == "promote" and (champion is None or champion.version != verdict.version)


def promote_judged(store: Store, verdict: Verdict, champion: Pointer | None, run_id: str) -> None:
    """Make the judged version champion if the verdict says so, unless it is.

    Raises:
        PromotionConflict: the champion was moved since it was read.
        RegistryError: the version is not on record, or its blobs are missing or changed.
    """
    # A run that died after it had promoted the version, and before it recorded that, finds it champion.
    was_interrupted = champion is not None and (champion.run_id, champion.version) == (run_id, verdict.version)
    if asks_for_promotion(verdict, champion) or was_interrupted:
        expected = champion.etag if champion else None
        promote(Registry(store, verdict.source), verdict.version, _reason(verdict), expected, run_id)


def challenge_judged(store: Store, verdict: Verdict, champion: Pointer | None, run_id: str) -> None:
    """Make the judged version challenger where nothing speaks against it and the hold-out cannot tell which is better.

    Raises:
        PromotionConflict: someone else named a challenger at the same time.
        RegistryError: the version is not on record, or its blobs are missing or changed.
    """
    if verdict.verdict == "inconclusive" and champion is not None and champion.version != verdict.version:
        challenge(Registry(store, verdict.source), verdict.version, verdict.summary, run_id)


def _reason(verdict: Verdict) -> str:
    """The verdict, and who approved it if the contract asks for approval."""
    approvals = [f"; approved by {check.reason}" for check in verdict.checks if check.id == "approval"]
    return verdict.summary + "".join(approvals)
