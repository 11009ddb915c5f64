"""The scheduled evaluation: impressions that matured since the last evaluation, and the champion's health.

Each evaluation is one object, `reports/<source>/evaluations/<until>.json`, written last; the next one begins where the
newest on record ends. So a run that dies can be repeated, and no impression is left out.
"""

from typing import Literal

import numpy as np
from pydantic import AwareDatetime, Field

from liftloop.contract.contract import Contract
from liftloop.contract.sections import GatePolicy
from liftloop.evaluation.decision_value import DecisionValue, decide, decision_value
from liftloop.evaluation.kpi import KPI_COLUMNS, Kpis, kpis_by_policy
from liftloop.evaluation.logged_candidates import competing_ads
from liftloop.evaluation.rewards import RewardSample, Score
from liftloop.features.definitions import LONGEST_WINDOW
from liftloop.features.lookup import historical_features
from liftloop.lake.matured import Window, matured_window
from liftloop.registry.load import load_model
from liftloop.registry.registry import Registry
from liftloop.registry.versions import ModelVersion
from liftloop.stats.interval import Interval, is_outside
from liftloop.stats.scoring import ReliabilityBin, reliability_table
from liftloop.storage.frozen import Measured
from liftloop.storage.keys import evaluation_key, evaluations_prefix
from liftloop.storage.runs import Step, record
from liftloop.storage.store import Store, references

Health = Literal["healthy", "degraded", "no_champion", "no_new_data"]

MAX_SCORED_ROWS = 300_000  # above it a sample is scored, so that the features fit in memory


class ChampionScore(Measured):
    """The champion on the matured impressions."""

    version: str
    impressions: int  # scored
    score: Score
    calibration_ratio: Interval
    reliability: tuple[ReliabilityBin, ...]
    decisions: DecisionValue | None  # None where no propensities were logged


class Evaluation(Measured):
    """Impressions with `since` <= event time < `until`; times and figures are empty if there are no new impressions."""

    source: str
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    impressions: int = 0
    rewards: int = 0
    kpis: dict[str, Kpis] = Field(default_factory=dict)  # of all impressions, and by policy
    champion: ChampionScore | None = None
    health: Health
    findings: tuple[str, ...]

    @property
    def key(self) -> str:
        """The object's key: keys sort by time, the newest last."""
        assert self.until is not None  # an evaluation without new impressions is not written
        return evaluation_key(self.source, self.until)


def evaluate(store: Store, contract: Contract) -> Evaluation:
    """Evaluate the impressions that matured since the last evaluation; the first covers the hold-out span.

    If there is a champion and fewer rewards than its gate needs, the impressions wait for the next evaluation.
    """
    last = last_evaluation(store, contract.source)
    window = matured_window(store, contract, last.until if last else None)
    pointer = Registry(store, contract.source).champion()
    version = Registry(store, contract.source).version(pointer.version) if pointer else None
    evaluation = (
        _evaluate(window, version)
        if window
        else _no_news(contract, "No impressions have matured since the last evaluation.")
    )
    keys = window.keys if window and evaluation.impressions else []
    inputs = (*references(store, keys), *(version.blobs if version else ()))
    metrics = evaluation.model_dump(mode="json", exclude={"source"})
    record(Step(name="evaluate", inputs=inputs, metrics=metrics, is_reused=not evaluation.impressions))
    return evaluation


def last_evaluation(store: Store, source: str) -> Evaluation | None:
    """The newest evaluation on record; None: there is none."""
    keys = sorted(item.key for item in store.list(evaluations_prefix(source)))
    return Evaluation.model_validate_json(store.get(keys[-1])) if keys else None


def write_evaluation(store: Store, evaluation: Evaluation) -> None:
    """Write an evaluation, so that the next one begins where it ends."""
    written = store.put(evaluation.key, evaluation.model_dump_json(indent=1).encode())
    record(Step(name="write_evaluation", outputs=(written,)))


def _evaluate(window: Window, version: ModelVersion | None) -> Evaluation:
    contract = window.contract
    impressions, rewards = window.count()
    needed = contract.gate.minimum_rewards if version else 1
    if rewards < needed:
        counted = f"{rewards:,} {contract.reward}s in {impressions:,} impressions matured since {window.since:%F %H:%M}"
        return _no_news(contract, f"{counted}, fewer than the {needed:,} needed: they wait for the next evaluation.")
    score = _score_champion(window, version) if version else None
    health, findings = judge_health(contract.gate, score)
    return Evaluation(
        source=contract.source,
        since=window.since,
        until=window.until,
        impressions=impressions,
        rewards=rewards,
        kpis=kpis_by_policy(contract, window.read(list(KPI_COLUMNS))),
        champion=score,
        health=health,
        findings=findings,
    )


def _no_news(contract: Contract, why: str) -> Evaluation:
    return Evaluation(source=contract.source, health="no_new_data", findings=(why,))


def _score_champion(window: Window, version: ModelVersion) -> ChampionScore:
    store, contract = window.store, window.contract
    model = load_model(store, version)
    rows = window.read(list(contract.column_types), limit=MAX_SCORED_ROWS)
    rows = historical_features(store, contract, rows)
    sample = RewardSample.of(contract, rows, rows[contract.reward].to_numpy(dtype=np.float64))
    probability = model.predict(rows)
    decisions = None
    if rows["propensity"].notna().any():
        ads = competing_ads(store, contract, window.keys_since(LONGEST_WINDOW))
        decisions = decision_value(contract, decide(store, contract, model, ads, rows))
    return ChampionScore(
        version=version.version,
        impressions=len(rows),
        score=sample.score(probability),
        calibration_ratio=sample.calibration_ratio(probability),
        reliability=tuple(reliability_table(sample.reward, probability, weight=sample.weight)),
        decisions=decisions,
    )


def judge_health(policy: GatePolicy, champion: ChampionScore | None) -> tuple[Health, tuple[str, ...]]:
    """Degraded if a whole interval lies out of bounds; the findings name it."""
    if champion is None:
        return "no_champion", ("No model has been promoted yet; the figures describe the logged policies.",)
    entropy, ratio, bounds = champion.score.normalized_entropy, champion.calibration_ratio, policy.calibration_ratio
    faults = []
    if entropy.low > 1:
        faults.append(f"Predictions are worse than the mean rate: normalized entropy {entropy:.3f}.")
    if is_outside(ratio, bounds):
        faults.append(f"Predicted / observed rewards = {ratio:.2f}, outside {bounds[0]:g} to {bounds[1]:g}.")
    value, needed = champion.decisions, policy.minimum_effective_sample_size
    if value and value.effective_sample_size >= needed and value.is_below_logged:
        faults.append(f"Decisions are worth less than the logged ones. {value.words}")
    return ("degraded", tuple(faults)) if faults else ("healthy", ("Predictions and decisions are within bounds.",))
