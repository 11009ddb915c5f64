"""The scheduled evaluation: impressions that matured since the last evaluation, and the champion's health.

Each evaluation is one object, written last; the next one begins where the newest on record ends, and evaluates what
reached the lake too late for its window, too. So a run that dies can be repeated, and no impression is left out.
"""

from collections.abc import Sequence
from typing import Any

from liftloop.contract.contract import Contract
from liftloop.evaluation.course import Course, hours_on_record, read_evaluations
from liftloop.evaluation.health import judge_health
from liftloop.evaluation.kpi import KPI_COLUMNS, kpis_by_policy
from liftloop.evaluation.late import Arrivals, late_words
from liftloop.evaluation.records import Evaluation
from liftloop.evaluation.scorer import Scorer
from liftloop.lake.matured import Window, matured_window
from liftloop.registry.registry import Registry
from liftloop.registry.timeline import Timeline
from liftloop.registry.versions import ModelVersion
from liftloop.storage.runs import Step, record
from liftloop.storage.store import Store, references

# What a manifest does not repeat.
_OF_THE_RECORD: dict[str, Any] = {
    "source": True,
    "files": True,
    "late_hours": True,
    "points": True,
    "champion": {"hours": True},
}


def evaluate(store: Store, contract: Contract) -> Evaluation:
    """Evaluate the impressions that matured since the last evaluation; the first covers the hold-out span.

    If there is a champion and fewer rewards than its gate needs, the impressions wait for the next evaluation.
    """
    earlier = read_evaluations(store, contract.source)
    window = matured_window(store, contract, earlier[-1].until if earlier else None)
    pointer = Registry(store, contract.source).champion()
    version = Registry(store, contract.source).version(pointer.version) if pointer else None
    evaluation = (
        _evaluate(window, earlier, version)
        if window
        else _no_news(contract, "No impressions have matured since the last evaluation.")
    )
    keys = window.keys if window and evaluation.impressions else []
    inputs = (*references(store, keys), *(version.blobs if version else ()))
    metrics = evaluation.model_dump(mode="json", exclude=_OF_THE_RECORD)
    record(Step(name="evaluate", inputs=inputs, metrics=metrics, is_reused=not evaluation.impressions))
    return evaluation


def write_evaluation(store: Store, evaluation: Evaluation) -> None:
    """Write an evaluation, so that the next one begins where it ends."""
    written = store.put(evaluation.key, evaluation.model_dump_json(indent=1).encode())
    record(Step(name="write_evaluation", outputs=(written,)))


def _evaluate(window: Window, earlier: Sequence[Evaluation], version: ModelVersion | None) -> Evaluation:
    contract = window.contract
    impressions, rewards = window.count()
    needed = contract.gate.minimum_rewards if version else 1
    if rewards < needed:
        counted = f"{rewards:,} {contract.reward}s in {impressions:,} impressions matured since {window.since:%F %H:%M}"
        return _no_news(contract, f"{counted}, fewer than the {needed:,} needed: they wait for the next evaluation.")
    arrivals = Arrivals(window, earlier)
    late = arrivals.evaluated()
    evaluation = Evaluation(
        source=contract.source,
        since=window.since,
        until=window.until,
        impressions=impressions,
        rewards=rewards,
        kpis=kpis_by_policy(contract, window.read(list(KPI_COLUMNS))),
        late=late,
        files=arrivals.files,
        newest_file=arrivals.newest_file,
        health="no_champion",
        findings=("No model has been promoted yet; the figures describe the logged policies.",),
    )
    if version:
        evaluation = _with_champion(evaluation, earlier, arrivals, version)
    news = (*(late_words(contract.reward, each) for each in late), *arrivals.losses)
    return evaluation.model_copy(update={"findings": (*evaluation.findings, *news)})


def _no_news(contract: Contract, why: str) -> Evaluation:
    return Evaluation(source=contract.source, health="no_new_data", findings=(why,))


def _with_champion(
    evaluation: Evaluation, earlier: Sequence[Evaluation], arrivals: Arrivals, version: ModelVersion
) -> Evaluation:
    window, scorer = arrivals.window, Scorer(arrivals.window, Timeline.load(arrivals.window.store, version))
    on_record = hours_on_record(earlier)
    scored_hours = set(on_record["hour"][on_record["version"] == version.version])
    score = scorer.score(version.version, evaluation.impressions)
    if score is None:
        fitted = f"The champion {version.version} was fitted on these impressions, so they do not judge it."
        return evaluation.model_copy(update={"findings": (fitted,)})
    scored = {
        "champion": score,
        "late_hours": scorer.hours(arrivals.spans(scored_hours)),
    }
    evaluation = evaluation.model_copy(update=scored)
    course = Course.of(earlier, evaluation)
    judged = judge_health(window.contract, course, version.version, window.since, window.until)
    found = {name: getattr(judged, name) for name in ("points", "faults", "health", "findings")}
    return evaluation.model_copy(update=found)
