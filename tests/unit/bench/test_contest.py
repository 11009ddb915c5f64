"""The quality benchmark's own rules: who counts as tied, and logs that are what their contracts say."""

from pathlib import Path

import numpy as np
import pytest

from bench.contest import CONSTANT, OURS, TRUTH, Contest, Entrant
from bench.measure import Case
from bench.real_logs import CONTRACTS, DATA_FOLDER, REAL_LOGS, land_real_log
from liftloop.contract.files import placeholders
from liftloop.contract.loading import load_contract
from liftloop.contract.sections import GatePolicy
from liftloop.evaluation.rewards import RewardSample
from liftloop.stats.columns import Floats

ROWS = 4_000


def probabilities() -> Floats:
    return np.random.default_rng(0).uniform(0.05, 0.6, ROWS)


def contest(**holdouts: Floats) -> Contest:
    reward = (np.random.default_rng(1).random(ROWS) < probabilities()).astype(float)
    entrants = {name.replace("_", " "): Entrant(holdout) for name, holdout in holdouts.items()}
    return Contest("set", RewardSample(reward, np.arange(ROWS), GatePolicy(), 7), entrants)


def blurred(size: float, seed: int = 2) -> Floats:
    """The true probabilities with an error of this size."""
    return np.asarray(np.clip(probabilities() + np.random.default_rng(seed).normal(0, size, ROWS), 0.01, 0.99))


def against(cases: list[Case], rival: str) -> Case:
    (case,) = (case for case in cases if case.case == f"set, {rival}")
    return case


def test_a_loss_within_chance_is_a_tie() -> None:
    tied = contest(ours=blurred(0.02, seed=3), peer=blurred(0.02))
    assert tied.excess("peer").low < 0 < tied.excess("peer").high
    assert against(tied.cases(), "peer").holds


def test_a_loss_beyond_chance_is_none() -> None:
    lost = contest(ours=blurred(0.2), peer=probabilities())
    assert lost.excess("peer").low > 0
    assert not against(lost.cases(), "peer").holds


def test_the_peer_with_the_best_claim_is_the_one_named() -> None:
    names = [case.case for case in contest(ours=blurred(0.1), weak=blurred(0.3), strong=probabilities()).cases()]
    assert names == ["set, strong"]


def test_constant_and_truth_have_goals_of_their_own() -> None:
    flat = np.full(ROWS, probabilities().mean())
    found = contest(ours=blurred(0.2), peer=blurred(0.2), constant=flat, true_probabilities=probabilities()).cases()
    assert (against(found, CONSTANT).goal, against(found, TRUTH).goal) == (1.0, 1.03)
    assert not against(found, TRUTH).holds


def test_scores_are_in_order() -> None:
    assert list(contest(peer=blurred(0.3), ours=probabilities()).scores()) == [OURS, "peer"]


@pytest.mark.parametrize("source", REAL_LOGS)
def test_each_log_has_the_columns_of_its_contract(source: str) -> None:
    if not DATA_FOLDER.is_dir():
        pytest.skip(f"the real logs are not in {DATA_FOLDER}")
    contract, rows = load_contract(source, CONTRACTS), REAL_LOGS[source](DATA_FOLDER)
    columns = [*contract.columns.values(), *contract.context.values()]
    wanted = {name for column in columns for name in [column.from_, *placeholders(column.template or "")] if name}
    assert wanted <= set(rows)
    assert rows["pseudo_time"].is_monotonic_increasing
    assert rows[contract.columns["impression_id"].from_].is_unique


def test_a_log_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        land_real_log("avazu", tmp_path, lambda _key, _body: None)
