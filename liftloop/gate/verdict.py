"""What the gate says: the evidence of every check, and the verdict that follows from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict

from liftloop.outcomes import Score
from liftloop.stats.interval import Interval
from liftloop.store import ObjectRef

CheckVerdict = Literal["pass", "fail", "inconclusive", "not_applicable"]
GateVerdict = Literal["promote", "refuse", "inconclusive"]


@dataclass(frozen=True)
class Finding:
    """What one check found, in words; the numbers and stored objects behind the words, where there are any."""

    verdict: CheckVerdict
    reason: str
    observed: str = "–"
    threshold: str = "–"
    values: Mapping[str, Interval] = field(default_factory=dict)
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
    artifacts: tuple[ObjectRef, ...] = ()
    is_error: bool = False  # it could not be made


class Verdict(_Frozen):
    """The evidence on one model version; `fingerprint` names all that it was judged by, but for the champion."""

    source: str
    version: str
    champion: str | None  # the version it was compared with
    fingerprint: str
    rows: int  # of the hold-out
    rewards: int
    scores: dict[str, Score]  # on the hold-out, by who predicted: model, constant, per-ad rate, champion
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> GateVerdict:
        """Refuse if a check fails, else inconclusive if one is, else promote."""
        found = {check.verdict for check in self.checks}
        return "refuse" if "fail" in found else "inconclusive" if "inconclusive" in found else "promote"

    @property
    def summary(self) -> str:
        """The verdict and the reasons that decided it."""
        if self.verdict == "promote":
            return f"promote: {sum(check.verdict == 'pass' for check in self.checks)} checks passed, none failed"
        deciding = "fail" if self.verdict == "refuse" else "inconclusive"
        reasons = [f"{check.name}: {check.reason}" for check in self.checks if check.verdict == deciding]
        return f"{self.verdict}: {' '.join(reasons)}"

    def check(self, name: str) -> Check:
        """The check of this name.

        Raises:
            KeyError: there is none.
        """
        return {check.name: check for check in self.checks}[name]
