"""The gate itself: all checks on one model version, at once."""

from collections.abc import Callable
from functools import partial

from liftloop.contract import Contract
from liftloop.features.lookup import materialized_key
from liftloop.gate.accuracy import beats, enough_evidence, is_calibrated, worst_slice
from liftloop.gate.card import model_card
from liftloop.gate.decisions import no_worse_decisions
from liftloop.gate.evidence import Evidence
from liftloop.gate.serving import online_features_agree, scores_identically
from liftloop.gate.verdict import Check, Finding, Verdict
from liftloop.runs import Step
from liftloop.store import ObjectRef, Store, fingerprint_of
from liftloop.training.registry import ModelVersion, Pointer, card_key, read_version, write_version
from liftloop.training.rollback import withdrawal

RULE_VERSION = "gate 3"
LONGEST_ERROR_CHARACTERS = 300


def judge(store: Store, contract: Contract, version: ModelVersion, champion: Pointer | None) -> tuple[Verdict, Step]:
    """May this version become champion? The evidence is kept as a blob, and the version's record points at it.

    A verdict on the same version, data and rival is taken as it is, and the champion keeps the one that made it so.
    Hand `champion.etag` on to `promote`, so that a promotion in the meantime is noticed.

    Raises:
        GateError: the version's training frame is gone.
    """
    known = known_verdict(store, contract, version, champion)
    if known is not None and version.evidence is not None:
        card = store.find(card_key(version))
        return known, _step(known, version, (version.evidence, *([card] if card else [])), is_reused=True)
    rival = None if champion is None or champion.version == version.version else champion.version
    evidence = Evidence(store, contract, version, read_version(store, contract.source, rival) if rival else None)
    verdict = _judge(evidence, is_champion=champion is not None and rival is None)
    kept = store.put_blob(verdict.model_dump_json(indent=1).encode(), ".json")
    card = store.put(card_key(version), model_card(evidence, verdict).encode())
    write_version(store, version.model_copy(update={"evidence": kept, "card": card}))
    return verdict, _step(verdict, version, (kept, card), is_reused=False)


def _judge(evidence: Evidence, *, is_champion: bool) -> Verdict:
    return Verdict(
        source=evidence.contract.source,
        version=evidence.version.version,
        champion=evidence.champion.version if evidence.champion else None,
        fingerprint=_fingerprint(evidence.store, evidence.contract, evidence.version),
        rows=evidence.frame.index.parts["holdout"].rows,
        rewards=evidence.frame.index.parts["holdout"].rewards,
        scores=evidence.scores(),
        checks=tuple(_check(name, find, evidence) for name, find in _checks(evidence.contract, is_champion).items()),
    )


def _checks(contract: Contract, is_champion: bool) -> dict[str, Callable[[Evidence], Finding]]:
    return {
        "enough evidence": lambda seen: enough_evidence(seen.outcomes),
        "beats the constant": lambda seen: beats(seen.outcomes, seen.probability, seen.constant, "the constant"),
        "beats the per-ad rate": lambda seen: beats(
            seen.outcomes, seen.probability, seen.ad_rate, "each ad's own rate"
        ),
        "beats the champion": partial(_beats_champion, is_champion=is_champion),
        "never rolled back": _never_rolled_back,
        "calibration": lambda seen: is_calibrated(seen.outcomes, seen.probability),
        **{f"worst {column}": partial(_worst_slice, column=column) for column in contract.gate.slices},
        "decisions": _decisions,
        "fresh process": lambda seen: scores_identically(seen.store, seen.version, seen.model, seen.holdout),
        "online features": lambda seen: online_features_agree(seen.store, seen.contract, seen.holdout),
    }


def _beats_champion(seen: Evidence, *, is_champion: bool) -> Finding:
    if is_champion:
        return Finding("not_applicable", "It is the champion already; there is nothing to promote.")
    if seen.champion is None:
        return Finding("not_applicable", "There is no champion yet.")
    return beats(seen.outcomes, seen.probability, seen.champion_probability, f"the champion {seen.champion.version}")


def _never_rolled_back(seen: Evidence) -> Finding:
    """What people took out of service returns only by their hand, however well it does on the hold-out."""
    left = withdrawal(seen.store, seen.contract.source, seen.version.version)
    if left is None:
        return Finding("pass", "It was not rolled back, or was made champion again since.")
    return Finding("fail", f"It was rolled back on {left.since:%Y-%m-%d %H:%M} UTC because: {left.reason}.")


def _worst_slice(seen: Evidence, *, column: str) -> Finding:
    return worst_slice(seen.outcomes, seen.probability, seen.holdout[column])


def _decisions(seen: Evidence) -> Finding:
    if seen.holdout["propensity"].isna().all():
        return Finding("not_applicable", "No impression of the hold-out was logged with its propensity.")
    return no_worse_decisions(seen.store, seen.contract, seen.decisions())


def _check(name: str, find: Callable[[Evidence], Finding], evidence: Evidence) -> Check:
    """One check, whatever the others say; if it cannot be made, it fails with the error as its reason."""
    try:
        return Check(name=name, **vars(find(evidence)))
    except Exception as error:
        reason = f"It could not be checked: {type(error).__name__}: {error}"[:LONGEST_ERROR_CHARACTERS]
        return Check(name=name, verdict="fail", reason=reason, observed="–", threshold="–", is_error=True)


def known_verdict(store: Store, contract: Contract, version: ModelVersion, champion: Pointer | None) -> Verdict | None:
    """The verdict on record, if nothing that it rests on has changed and every check could be made."""
    if version.evidence is None:
        return None
    try:
        verdict = Verdict.model_validate_json(store.get_verified(version.evidence))
    except (KeyError, ValueError):  # gone, changed, or of an older form
        return None
    rival = champion.version if champion else None
    is_current = verdict.fingerprint == _fingerprint(store, contract, version)
    is_same_rival = rival in (verdict.champion, version.version)
    has_errors = any(check.is_error for check in verdict.checks)
    return verdict if is_current and is_same_rival and not has_errors else None


def _fingerprint(store: Store, contract: Contract, version: ModelVersion) -> str:
    """Of everything that a verdict rests on, but for the champion."""
    online = store.fingerprint(materialized_key(contract.source))
    left = withdrawal(store, contract.source, version.version)
    rolled_back = left.number if left else None
    return fingerprint_of(
        RULE_VERSION, contract.model_dump_json(), version.version, version.frame_fingerprint, online, rolled_back
    )


def _step(verdict: Verdict, version: ModelVersion, kept: tuple[ObjectRef, ...], *, is_reused: bool) -> Step:
    artifacts = [ref for check in verdict.checks for ref in check.artifacts]
    metrics = {
        "version": verdict.version,
        "champion": verdict.champion,
        "verdict": verdict.verdict,
        "checks": {check.name: check.verdict for check in verdict.checks},
        "scores": {name: score.model_dump() for name, score in verdict.scores.items()},
    }
    inputs, outputs = (*version.blobs, *version.frame), (*kept, *artifacts)
    return Step(name="gate", inputs=inputs, outputs=outputs, metrics=metrics, is_reused=is_reused)
