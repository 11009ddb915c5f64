"""The gate: all checks on one model version."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import TypeVar

from liftloop.contract.contract import Contract
from liftloop.gate.card.page import model_card
from liftloop.gate.checks.inputs import check_freshness, data_lag
from liftloop.gate.evidence import Evidence
from liftloop.gate.specifications import all_checks
from liftloop.gate.verdict import Verdict, read_verdict
from liftloop.registry.registry import Registry
from liftloop.registry.rollback import withdrawal
from liftloop.registry.versions import ModelVersion, Pointer
from liftloop.storage.hashing import fingerprint_of
from liftloop.storage.keys import card_key, materialized_key
from liftloop.storage.runs import Step, record
from liftloop.storage.store import ObjectRef, Store
from liftloop.training.frame import open_frame

RULE_VERSION = "gate 11"
Row = TypeVar("Row")


def judge(store: Store, contract: Contract, version: ModelVersion, champion: Pointer | None) -> Verdict:
    """The verdict on a version. It is written as a blob, with a model card, and the version's record points to both.

    A verdict on the same version, data and champion is reused, and so is the verdict that promoted the champion.
    Pass `champion.etag` to `promote`, so that a promotion in the meantime is a conflict.

    Raises:
        GateError: the version's training frame is gone.
    """
    known = known_verdict(store, contract, version, champion)
    if known is not None and version.evidence is not None:
        card = store.find(card_key(version.source, version.version))
        record(_step(known, version, (version.evidence, *([card] if card else [])), is_reused=True))
        return known
    is_champion = champion is not None and champion.version == version.version
    evidence = Evidence(store, contract, version, *_rival(store, contract, None if is_champion else champion))
    verdict = _judge(evidence, is_champion=is_champion)
    blob = store.put_blob(verdict.model_dump_json(indent=1).encode(), ".json")
    card = store.put(card_key(version.source, version.version), model_card(evidence, verdict).encode())
    Registry(store, version.source).write(version.model_copy(update={"evidence": blob, "card": card}))
    record(_step(verdict, version, (blob, card), is_reused=False))
    return verdict


def _rival(
    store: Store, contract: Contract, pointer: Pointer | None
) -> tuple[ModelVersion, datetime] | tuple[None, None]:
    """The champion, and since when."""
    if pointer is None:
        return None, None
    return Registry(store, contract.source).version(pointer.version), pointer.since


def _judge(evidence: Evidence, *, is_champion: bool) -> Verdict:
    checks = all_checks(evidence.contract, is_champion=is_champion, has_conversions=bool(evidence.version.conversion))
    return Verdict(
        source=evidence.contract.source,
        version=evidence.version.version,
        champion=evidence.champion.version if evidence.champion else None,
        fingerprint=_fingerprint(evidence.store, evidence.contract, evidence.version),
        rows=evidence.frame.index.parts["holdout"].rows,
        rewards=evidence.frame.index.parts["holdout"].rewards,
        scores=evidence.scores(),
        groups=_rows_of(evidence.groups),
        arms=_rows_of(evidence.arms),
        checks=tuple(check.run(evidence) for check in checks),
    )


def _rows_of(table: Callable[[], tuple[Row, ...]]) -> tuple[Row, ...]:
    with suppress(Exception):  # a check fails with the same error and reports it
        return table()
    return ()


def known_verdict(store: Store, contract: Contract, version: ModelVersion, champion: Pointer | None) -> Verdict | None:
    """The verdict on record; None if there is none, an input has changed since, or a check ended with an error."""
    verdict = read_verdict(store, version)
    if verdict is None:
        return None
    current = champion.version if champion else None
    is_current = verdict.fingerprint == _fingerprint(store, contract, version)
    is_same_champion = current in (verdict.champion, version.version)
    has_errors = any(check.is_error for check in verdict.checks)
    return verdict if is_current and is_same_champion and not has_errors else None


def _fingerprint(store: Store, contract: Contract, version: ModelVersion) -> str:
    """Fingerprint of everything that a verdict depends on, except the champion and measured times."""
    online = store.fingerprint(materialized_key(contract.source))
    withdrawn = withdrawal(Registry(store, contract.source), version.version)
    rolled_back = withdrawn.number if withdrawn else None
    stale = _is_stale(store, contract, version)
    data = (version.version, version.frame_fingerprint, online, rolled_back, stale)
    return fingerprint_of(RULE_VERSION, contract.model_dump_json(exclude={"schedules"}), *data)


def _is_stale(store: Store, contract: Contract, version: ModelVersion) -> bool:
    """Whether the data is too old by the contract; until then new impressions do not change the verdict."""
    frame = open_frame(store, contract.source, version.frame_fingerprint)
    return frame is not None and check_freshness(contract, data_lag(store, contract, frame.index)).verdict == "fail"


def _step(verdict: Verdict, version: ModelVersion, written: tuple[ObjectRef, ...], *, is_reused: bool) -> Step:
    artifacts = [ref for check in verdict.checks for ref in check.artifacts]
    metrics = {
        "version": verdict.version,
        "champion": verdict.champion,
        "verdict": verdict.verdict,
        "checks": {check.id: check.verdict for check in verdict.checks},
        "scores": {name: score.model_dump() for name, score in verdict.scores.items()},
    }
    inputs, outputs = (*version.blobs, *version.frame), (*written, *artifacts)
    return Step(name="gate", inputs=inputs, outputs=outputs, metrics=metrics, is_reused=is_reused)
