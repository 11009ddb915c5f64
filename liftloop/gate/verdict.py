"""The gate's verdict and its checks."""

from collections.abc import Iterable
from dataclasses import field
from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from liftloop.evaluation.rewards import Score
from liftloop.registry.versions import ModelVersion
from liftloop.stats.interval import Interval
from liftloop.storage.frozen import Measured
from liftloop.storage.store import ObjectRef, Store

CheckVerdict = Literal["pass", "fail", "inconclusive", "untrustworthy", "not_applicable"]
GateVerdict = Literal["promote", "refuse", "inconclusive"]


UNDECIDED: frozenset[CheckVerdict] = frozenset({"inconclusive", "untrustworthy"})


def overall(found: Iterable[CheckVerdict]) -> GateVerdict:
    """Refuse if a check fails, else inconclusive if one is undecided, else promote."""
    found = set(found)
    return "refuse" if "fail" in found else "inconclusive" if found & UNDECIDED else "promote"


@dataclass(frozen=True, config=ConfigDict(extra="forbid", ser_json_inf_nan="constants"))
class Check:
    """The result of one check: a row of the evidence table. `id` and `title` come from its specification."""

    verdict: CheckVerdict
    reason: str
    observed: str = "–"
    threshold: str = "–"
    values: dict[str, Interval] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)  # numbers without an interval
    artifacts: tuple[ObjectRef, ...] = ()
    is_error: bool = False  # the check ended with an error
    id: str = ""
    title: str = ""

    @property
    def first_sentence(self) -> str:
        """Of the reason."""
        sentence, stop, _ = self.reason.partition(". ")
        return sentence + stop.rstrip()


class GroupRow(Measured):
    """One value of a slice or group column on the hold-out; None where it has too few rewards."""

    column: str
    value: str
    impressions: int
    rewards: int
    calibration_ratio: Interval | None  # predicted over observed rewards
    calibration_error: Interval | None  # debiased, over the group's own mean rate
    normalized_entropy: Interval | None  # 1 is no better than the group's own mean rate
    policy_disagreement: float | None  # share of the impressions for which the model's policy chooses another ad


class ArmRow(Measured):
    """The policy that always shows one ad in one place, where that ad competes."""

    place: str  # the value of the contract's `choose_among`
    ad_id: str
    impressions: int  # for which it competes
    shown: int  # of these, with this ad
    value: Interval | None  # doubly robust, per impression; None where it earned too seldom
    effective_sample_size: float


class Verdict(Measured):
    """The evidence on one model version; `fingerprint` covers all inputs except the champion."""

    source: str
    version: str
    champion: str | None  # the version that it was compared with
    fingerprint: str
    rows: int  # of the hold-out
    rewards: int
    scores: dict[str, Score]  # on the hold-out, by predictor: see `Evidence.scores`
    groups: tuple[GroupRow, ...] = ()  # the largest values of the contract's groups and slices
    arms: tuple[ArmRow, ...] = ()  # fixed policies of the largest places with few ads
    checks: tuple[Check, ...]

    @property
    def verdict(self) -> GateVerdict:
        return overall(check.verdict for check in self.checks)

    @property
    def summary(self) -> str:
        """The verdict and the first sentence of each reason that decided it."""
        if self.verdict == "promote":
            return f"promote: {sum(check.verdict == 'pass' for check in self.checks)} checks passed, none failed"
        deciding = {"fail"} if self.verdict == "refuse" else UNDECIDED
        reasons = [f"{check.title}: {check.first_sentence}" for check in self.checks if check.verdict in deciding]
        return f"{self.verdict}: {' '.join(reasons)}"

    def check(self, identifier: str) -> Check:
        """The check with this id.

        Raises:
            KeyError: there is no such check.
        """
        return {check.id: check for check in self.checks}[identifier]


def read_verdict(store: Store, version: ModelVersion) -> Verdict | None:
    """The gate's last verdict on a version; None: there is none, or it is in an older format."""
    if version.evidence is None:
        return None
    try:
        return Verdict.model_validate_json(store.get_verified(version.evidence))
    except (KeyError, ValueError):
        return None
