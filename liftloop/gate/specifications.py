"""The list of the gate's checks: on predictions, and on everything else about a version."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, Protocol, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from liftloop.contract.contract import Contract
from liftloop.evaluation.rewards import RewardSample
from liftloop.gate.checks.accuracy import check_beats, check_enough_rewards, check_not_worse
from liftloop.gate.checks.calibration import check_calibration, check_calibration_error
from liftloop.gate.checks.decisions import check_best_fixed, check_decisions
from liftloop.gate.checks.groups import check_groups
from liftloop.gate.checks.inputs import check_freshness, check_leakage, sampled
from liftloop.gate.checks.readiness import check_latency, check_online_features, check_same_scores, check_size
from liftloop.gate.checks.slices import check_slice_calibration, check_worst_slice
from liftloop.gate.evidence import Evidence
from liftloop.gate.verdict import Check
from liftloop.registry.registry import Registry
from liftloop.registry.rollback import withdrawal
from liftloop.stats.columns import Floats
from liftloop.training.constraints import raw_columns

LONGEST_ERROR_CHARACTERS = 300


class Predictions(Protocol):
    """The matured hold-out and predictions for it by the model and its baselines; arrays of shape (rows,)."""

    @property
    def contract(self) -> Contract: ...
    @property
    def holdout(self) -> pd.DataFrame: ...
    @property
    def sample(self) -> RewardSample: ...
    @property
    def probability(self) -> Floats: ...
    @property
    def constant(self) -> Floats: ...
    @property
    def ad_rate(self) -> Floats: ...
    @property
    def champion_version(self) -> str | None: ...  # None: there is none, or it is this version
    @property
    def champion_probability(self) -> Floats: ...
    @property
    def is_new_to_champion(self) -> NDArray[np.bool_]: ...  # whether it was not trained on a row
    @property
    def look(self) -> int: ...  # how many versions were compared with this champion, with this one


Inputs = TypeVar("Inputs", bound=Predictions)


@dataclass(frozen=True)
class Specification(Generic[Inputs]):
    """One check: its id in verdicts, its title on pages, and its function."""

    id: str
    title: str
    check: Callable[[Inputs], Check]

    def run(self, inputs: Inputs) -> Check:
        """Run the check; if it raises, it fails with the error as its reason."""
        try:
            found = self.check(inputs)
        except Exception as error:
            reason = f"The check failed with an error: {type(error).__name__}: {error}"[:LONGEST_ERROR_CHARACTERS]
            found = Check("fail", reason, is_error=True)
        return replace(found, id=self.id, title=self.title)


def all_checks(contract: Contract, *, is_champion: bool, has_conversions: bool) -> list[Specification[Evidence]]:
    """Every check of a version, in the order of the evidence table.

    Args:
        has_conversions: whether it predicts P(conversion | click), which is then judged on its own.
    """
    return [
        *prediction_checks(contract, is_champion=is_champion),
        *(conversion_checks(is_champion=is_champion) if has_conversions else []),
        Specification("never_rolled_back", "never rolled back", _never_rolled_back),
        Specification("decisions", "decisions", _decisions),
        Specification("decisions_best_fixed", "decisions against the best fixed policy", _decisions_best_fixed),
        Specification("freshness", "data freshness", lambda inputs: check_freshness(inputs.contract, inputs.data_lag)),
        Specification(
            "same_scores", "fresh process", lambda inputs: check_same_scores(inputs.store, inputs.model, inputs.fresh)
        ),
        Specification("latency", "latency", lambda inputs: check_latency(inputs.contract.gate, inputs.fresh)),
        Specification("size", "size", lambda inputs: check_size(inputs.contract.gate, inputs.version)),
        Specification(
            "online_features",
            "online features",
            lambda inputs: check_online_features(inputs.store, inputs.contract, inputs.holdout),
        ),
    ]


def prediction_checks(contract: Contract, *, is_champion: bool) -> list[Specification[Inputs]]:
    """The checks that need only predictions and rewards."""
    return [
        Specification("enough_rewards", "enough evidence", lambda inputs: check_enough_rewards(inputs.sample)),
        Specification("beats_constant", "beats the constant", _beats_constant),
        Specification("beats_ad_rate", "beats the per-ad rate", _beats_ad_rate),
        Specification("beats_champion", "beats the champion", partial(_beats_champion, is_champion=is_champion)),
        Specification(
            "calibration", "calibration", lambda inputs: check_calibration(inputs.sample, inputs.probability)
        ),
        Specification(
            "calibration_error",
            "calibration error",
            lambda inputs: check_calibration_error(inputs.sample, inputs.probability),
        ),
        *_column_checks(contract.gate.slices, "worst_slice", "worst {}", check_worst_slice),
        *_column_checks(contract.gate.slices, "slice_calibration", "calibration by {}", check_slice_calibration),
        *_column_checks(contract.gate.groups, "groups", "fair by {}", check_groups),
        Specification("leakage", "leakage", _leakage),
    ]


def conversion_checks(*, is_champion: bool) -> list[Specification[Evidence]]:
    """The checks of P(conversion | click), on the clicked impressions of the hold-out.

    It must not be worse than its rivals: a constant may well be all that so few clicks teach.
    """
    beats_champion = partial(_is_as_good_as_champion, is_champion=is_champion)
    return [
        Specification(f"conversion_{id}", f"conversions: {title}", partial(_of_clicked, check))
        for id, title, check in (
            ("enough_rewards", "enough evidence", lambda inputs: check_enough_rewards(inputs.sample)),
            ("not_worse_than_constant", "not worse than the constant", _is_as_good_as_constant),
            ("not_worse_than_champion", "not worse than the champion", beats_champion),
            ("calibration", "calibration", lambda inputs: check_calibration(inputs.sample, inputs.probability)),
        )
    ]


def _of_clicked(check: Callable[[Predictions], Check], inputs: Evidence) -> Check:
    return check(inputs.of_clicked)


def _column_checks(
    columns: tuple[str, ...],
    prefix: str,
    title: str,
    check: Callable[[RewardSample, Floats, "pd.Series[str]"], Check],
) -> list[Specification[Inputs]]:
    """One check for each column."""

    def of(column: str) -> Callable[[Inputs], Check]:
        return lambda inputs: check(inputs.sample, inputs.probability, inputs.holdout[column])

    return [Specification(f"{prefix}:{column}", title.format(column), of(column)) for column in columns]


def _beats_constant(inputs: Predictions) -> Check:
    return check_beats(inputs.sample, inputs.probability, inputs.constant, "the constant")


def _beats_ad_rate(inputs: Predictions) -> Check:
    return check_beats(inputs.sample, inputs.probability, inputs.ad_rate, "each ad's own rate")


def _beats_champion(inputs: Predictions, *, is_champion: bool) -> Check:
    return _against_champion(check_beats, inputs, is_champion=is_champion)


def _is_as_good_as_constant(inputs: Predictions) -> Check:
    return check_not_worse(inputs.sample, inputs.probability, inputs.constant, "the constant")


def _is_as_good_as_champion(inputs: Predictions, *, is_champion: bool) -> Check:
    return _against_champion(check_not_worse, inputs, is_champion=is_champion)


def _against_champion(
    check: Callable[[RewardSample, Floats, Floats, str], Check], inputs: Predictions, *, is_champion: bool
) -> Check:
    """The check on the impressions that are new to the champion."""
    if is_champion:
        return Check("not_applicable", "It is the champion; there is nothing to promote.")
    if inputs.champion_version is None:
        return Check("not_applicable", "There is no champion yet.")
    name, is_new = f"the champion {inputs.champion_version}", inputs.is_new_to_champion
    if not inputs.sample.where(is_new).has_both:
        return Check("inconclusive", f"{name.capitalize()} was trained on all of the hold-out that has rewards.")
    ours, theirs = inputs.probability[is_new], inputs.champion_probability[is_new]
    return check(inputs.sample.where(is_new).at_look(inputs.look), ours, theirs, name)


def _leakage(inputs: Predictions) -> Check:
    columns = [name for name in raw_columns(inputs.contract) if name in inputs.holdout]
    return check_leakage(*sampled(inputs.sample, inputs.holdout[columns]))


def _never_rolled_back(inputs: Evidence) -> Check:
    """A version that was rolled back can only be promoted by hand, however well it does on the hold-out."""
    withdrawn = withdrawal(Registry(inputs.store, inputs.contract.source), inputs.version.version)
    if withdrawn is None:
        return Check("pass", "It was never rolled back, or has been promoted again since.")
    return Check("fail", f"It was rolled back on {withdrawn.since:%Y-%m-%d %H:%M} UTC because: {withdrawn.reason}.")


def _decisions(inputs: Evidence) -> Check:
    if undecidable := _undecidable(inputs):
        return undecidable
    rival, champion_decisions = "the logged decisions", inputs.champion_decisions
    if champion_decisions is not None:
        rival = f"the champion {inputs.champion_version}"
    found = check_decisions(inputs.store, inputs.contract, inputs.decisions, champion_decisions, rival)
    if inputs.champion is None or champion_decisions is not None:
        return found
    names = " and ".join(inputs.champion_pair_columns)
    return replace(found, reason=f"{found.reason} The champion's decisions have no value, because it reads {names}.")


def _decisions_best_fixed(inputs: Evidence) -> Check:
    return _undecidable(inputs) or check_best_fixed(inputs.contract, inputs.decisions)


def _undecidable(inputs: Evidence) -> Check | None:
    """Why no decision can be valued; None: they can."""
    if not inputs.has_propensities:
        return Check("not_applicable", "No impression in the hold-out has a logged propensity.")
    if inputs.pair_columns:
        names = " and ".join(inputs.pair_columns)
        return Check(
            "not_applicable",
            f"The model reads {names}, which the log has of the logged ad alone, so no other ad is eligible. Without"
            f" {names} in the context of contracts/{inputs.contract.source}.yaml, decisions can be valued.",
        )
    if inputs.decided.empty:
        return Check("inconclusive", "The champion was trained on all of the hold-out that has propensities.")
    return None
