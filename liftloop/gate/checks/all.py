"""Which checks the gate makes, by name: of the predictions, and of all else that a version brings with it."""

from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

import pandas as pd

from liftloop.contract.contract import Contract
from liftloop.evaluation.rewards import Outcomes
from liftloop.gate.checks.accuracy import beats, enough_evidence
from liftloop.gate.checks.calibration import is_calibrated, is_calibrated_throughout
from liftloop.gate.checks.decisions import no_worse_decisions
from liftloop.gate.checks.groups import groups_are_alike
from liftloop.gate.checks.inputs import is_of_today, known_before_the_outcome, sampled
from liftloop.gate.checks.readiness import is_fast, is_small, online_features_agree, scores_identically
from liftloop.gate.checks.slices import slices_are_calibrated, worst_slice
from liftloop.gate.evidence import Evidence
from liftloop.gate.verdict import Check, Finding
from liftloop.registry.rollback import withdrawal
from liftloop.stats.columns import Floats
from liftloop.training.constraints import raw_columns

LONGEST_ERROR_CHARACTERS = 300


class Predictions(Protocol):
    """The matured hold-out, what was predicted for it and by whom; arrays of shape (rows,)."""

    @property
    def contract(self) -> Contract: ...
    @property
    def holdout(self) -> pd.DataFrame: ...
    @property
    def outcomes(self) -> Outcomes: ...
    @property
    def probability(self) -> Floats: ...
    @property
    def constant(self) -> Floats: ...
    @property
    def ad_rate(self) -> Floats: ...
    @property
    def rival(self) -> str | None: ...  # the champion, if there is one and it is another version
    @property
    def champion_probability(self) -> Floats: ...


Seen = TypeVar("Seen")
Find = Callable[[Seen], Finding]


def all_checks(contract: Contract, *, is_champion: bool) -> dict[str, Find[Evidence]]:
    """Every check of a version, in the order of the evidence table."""
    return {
        **prediction_checks(contract, is_champion=is_champion),
        "never rolled back": _never_rolled_back,
        "decisions": _decisions,
        "data freshness": lambda seen: is_of_today(seen.contract, seen.lag),
        "fresh process": lambda seen: scores_identically(seen.store, seen.model, seen.fresh),
        "latency": lambda seen: is_fast(seen.contract.gate, seen.fresh),
        "size": lambda seen: is_small(seen.contract.gate, seen.version),
        "online features": lambda seen: online_features_agree(seen.store, seen.contract, seen.holdout),
    }


def prediction_checks(contract: Contract, *, is_champion: bool) -> dict[str, Find[Predictions]]:
    """The checks that need nothing but predictions and rewards."""
    return {
        "enough evidence": lambda seen: enough_evidence(seen.outcomes),
        "beats the constant": lambda seen: beats(seen.outcomes, seen.probability, seen.constant, "the constant"),
        "beats the per-ad rate": lambda seen: beats(
            seen.outcomes, seen.probability, seen.ad_rate, "each ad's own rate"
        ),
        "beats the champion": partial(_beats_champion, is_champion=is_champion),
        "calibration": lambda seen: is_calibrated(seen.outcomes, seen.probability),
        "calibration error": lambda seen: is_calibrated_throughout(seen.outcomes, seen.probability),
        **{f"worst {name}": partial(_by_column, worst_slice, name) for name in contract.gate.slices},
        **{f"calibration by {name}": partial(_by_column, slices_are_calibrated, name) for name in contract.gate.slices},
        **{f"fair by {name}": partial(_by_column, groups_are_alike, name) for name in contract.gate.groups},
        "leakage": _leakage,
    }


def make_check(name: str, find: Find[Seen], seen: Seen) -> Check:
    """One check, whatever the others say; if it cannot be made, it fails with the error as its reason."""
    try:
        return Check(name=name, **vars(find(seen)))
    except Exception as error:
        reason = f"It could not be checked: {type(error).__name__}: {error}"[:LONGEST_ERROR_CHARACTERS]
        return Check(name=name, verdict="fail", reason=reason, observed="–", threshold="–", is_error=True)


def _beats_champion(seen: Predictions, *, is_champion: bool) -> Finding:
    if is_champion:
        return Finding("not_applicable", "It is the champion already; there is nothing to promote.")
    if seen.rival is None:
        return Finding("not_applicable", "There is no champion yet.")
    return beats(seen.outcomes, seen.probability, seen.champion_probability, f"the champion {seen.rival}")


def _by_column(
    judge: Callable[[Outcomes, Floats, "pd.Series[str]"], Finding], column: str, seen: Predictions
) -> Finding:
    return judge(seen.outcomes, seen.probability, seen.holdout[column])


def _leakage(seen: Predictions) -> Finding:
    columns = [name for name in raw_columns(seen.contract) if name in seen.holdout]
    return known_before_the_outcome(*sampled(seen.outcomes, seen.holdout[columns]))


def _never_rolled_back(seen: Evidence) -> Finding:
    """What people took out of service returns only by their hand, however well it does on the hold-out."""
    left = withdrawal(seen.store, seen.contract.source, seen.version.version)
    if left is None:
        return Finding("pass", "It was not rolled back, or was made champion again since.")
    return Finding("fail", f"It was rolled back on {left.since:%Y-%m-%d %H:%M} UTC because: {left.reason}.")


def _decisions(seen: Evidence) -> Finding:
    if not seen.has_propensities:
        return Finding("not_applicable", "No impression of the hold-out was logged with its propensity.")
    return no_worse_decisions(seen.store, seen.contract, seen.decisions)
