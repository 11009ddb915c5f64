"""What the gate says: the evidence of every check, and the verdict that follows from it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict

from liftloop.evaluation.rewards import Score
from liftloop.registry.versions import ModelVersion
from liftloop.stats.interval import Interval
from liftloop.storage.store import ObjectRef, Store

CheckVerdict = Literal["pass", "fail", "inconclusive", "untrustworthy", "not_applicable"]
GateVerdict = Literal["promote", "refuse", "inconclusive"]


DOUBTS: frozenset[CheckVerdict] = frozenset({"inconclusive", "untrustworthy"})


def overall(found: Iterable[CheckVerdict]) -> GateVerdict:
    """Refuse if a check fails, else inconclusive if one leaves a doubt, else promote."""
    found = set(found)
    return "refuse" if "fail" in found else "inconclusive" if found & DOUBTS else "promote"


@dataclass(frozen=True)
class Finding:
    """What one check found, in words; the numbers and stored objects behind the words, where there are any."""

    verdict: CheckVerdict
    reason: str
    observed: str = "–"
    threshold: str = "–"
    values: Mapping[str, Interval] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)  # numbers without an interval
    artifacts: tuple[ObjectRef, ...] = ()


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class Check(_Frozen):
    """One row of the evidence table."""

    name: str
    observed: str
    threshold: str
    verdict: CheckVerdict
    reason: str
    values: dict[str, Interval] = {}
    figures: dict[str, float] = {}
    artifacts: tuple[ObjectRef, ...] = ()
    is_error: bool = False  # it could not be made


class GroupRow(_Frozen):
    """One value of a slice or group column, on the hold-out; None where too few rewards came for a figure."""

    column: str
    value: str
    impressions: int
    rewards: int
    calibration_ratio: Interval | None  # predicted over observed rewards
    calibration_error: Interval | None  # debiased, over the group's own mean rate
    normalized_entropy: Interval | None  # 1 is no better than the group's own mean rate
    chosen_otherwise: float | None  # share of the impressions that the model's policy would give to another ad


class Verdict(_Frozen):
    """The evidence on one model version; `fingerprint` names all that it was judged by, but for the champion."""

    source: str
    version: str
    champion: str | None  # the version it was compared with
    fingerprint: str
    rows: int  # of the hold-out
    rewards: int
    scores: dict[str, Score]  # on the hold-out, by who predicted: see `Evidence.scores`
    groups: tuple[GroupRow, ...] = ()  # by the contract's groups and slices, the largest of each
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> GateVerdict:
        return overall(check.verdict for check in self.checks)

    @property
    def summary(self) -> str:
        """The verdict and the reasons that decided it."""
        if self.verdict == "promote":
            return f"promote: {sum(check.verdict == 'pass' for check in self.checks)} checks passed, none failed"
        deciding = {"fail"} if self.verdict == "refuse" else DOUBTS
        reasons = [f"{check.name}: {check.reason}" for check in self.checks if check.verdict in deciding]
        return f"{self.verdict}: {' '.join(reasons)}"

    def check(self, name: str) -> Check:
        """The check of this name.

        Raises:
            KeyError: there is none.
        """
        return {check.name: check for check in self.checks}[name]


def read_verdict(store: Store, version: ModelVersion) -> Verdict | None:
    """The gate's last verdict on a version; None: none, or not in today's form."""
    if version.evidence is None:
        return None
    try:
        return Verdict.model_validate_json(store.get_verified(version.evidence))
    except (KeyError, ValueError):
        return None
