"""Promotion by hand: a person names the champion or challenger, and an overridden verdict stays on record."""

from liftloop.gate.verdict import Verdict, read_verdict
from liftloop.registry.challenger import Challenge, challenge
from liftloop.registry.promotion import promote
from liftloop.registry.registry import Registry
from liftloop.registry.versions import ModelVersion, Pointer, RegistryError
from liftloop.storage.store import Store


def gate_words(verdict: Verdict | None) -> str:
    """The verdict's summary and the champion it was compared with."""
    if verdict is None:
        return "not judged"
    return f"{verdict.summary} (compared with {verdict.champion or 'no champion'})"


def promote_by_hand(
    store: Store, version: ModelVersion, reason: str, run_id: str, *, override_gate: bool = False
) -> Pointer:
    """Make a version champion in place of the current one.

    Raises:
        RegistryError: no reason; the version is champion; the gate refused it or has not judged it, and
            `override_gate` is not set; its blobs are missing or changed.
        PromotionConflict: someone else moved the champion at the same time.
    """
    overrides = _overrides(store, version, reason, override_gate)
    current = Registry(store, version.source).champion()
    if current is not None and current.version == version.version:
        raise RegistryError(f"{version.version} is the champion of {version.source} already")
    expected = current.etag if current else None
    return promote(Registry(store, version.source), version.version, reason, expected, run_id, overrides)


def challenge_by_hand(
    store: Store, version: ModelVersion, reason: str, run_id: str, *, override_gate: bool = False
) -> Challenge:
    """Make a version the challenger of the current champion.

    Raises:
        RegistryError: as in `promote_by_hand`, or there is no champion.
        PromotionConflict: someone else named a challenger at the same time.
    """
    overrides = _overrides(store, version, reason, override_gate)
    return challenge(Registry(store, version.source), version.version, reason, run_id, overrides)


def _overrides(store: Store, version: ModelVersion, reason: str, override_gate: bool) -> str | None:
    """The overridden verdict in words; None: the gate did not refuse."""
    if not reason.strip():
        raise RegistryError("a promotion needs a reason: it is recorded in the audit trail")
    verdict = read_verdict(store, version)
    if verdict is not None and verdict.verdict != "refuse":
        return None
    if not override_gate:
        found = f"refused it ({verdict.summary})" if verdict else "has not judged it"
        raise RegistryError(
            f"the gate {found}: to promote {version.version} of {version.source} anyway, use --override-gate"
        )
    return gate_words(verdict)
