"""Evaluates newly matured impressions and the champion's health."""

from typing import Any

from liftloop.contract.loading import load_contract
from liftloop.evaluation import evaluate as library
from liftloop.evaluation.course import read_evaluations
from liftloop.evaluation.records import Evaluation
from liftloop.evaluation.report import evaluation_page, kpi_rows
from liftloop.storage.keys import off_policy_key
from liftloop.storage.store import open_store
from tasks.events import announce
from tasks.final_state import FinalState, completed
from tasks.pages import publish_link, publish_page, publish_table
from tasks.step import step

_ANNOUNCED: dict[str, Any] = {"since": True, "until": True, "findings": True, "faults": True}
_ANNOUNCED |= {"champion": {"version", "impressions", "score", "calibration_ratio", "decisions"}}


@step
def evaluate_matured(source: str) -> Evaluation:
    """KPIs of the newly matured impressions, and the champion's performance on them."""
    return library.evaluate(open_store(), load_contract(source))


@step
def report_evaluation(evaluation: Evaluation) -> None:
    """Publish the page and the KPIs in the UI, and link the source's off-policy page if there is one."""
    source = evaluation.source
    if open_store().find(off_policy_key(source)):
        publish_link(source, "off-policy", off_policy_key(source))
    publish_table(source, "evaluation", kpi_rows(evaluation.kpis), f"KPIs of {source}: {evaluation.health}")
    earlier = read_evaluations(open_store(), source)
    publish_page(source, "evaluation", evaluation_page(load_contract(source), evaluation, earlier))


@step
def announce_health(evaluation: Evaluation) -> None:
    """Emit `model.healthy`, or `model.degraded` once for each fault: it starts a training, and a fault may last."""
    if evaluation.announced:
        payload = evaluation.model_dump(mode="json", include=_ANNOUNCED)
        announce(f"model.{evaluation.announced}", evaluation.source, payload)


@step
def write_evaluation(evaluation: Evaluation) -> None:
    """Write the evaluation; the next one starts where it ends."""
    library.write_evaluation(open_store(), evaluation)


def health_state(evaluation: Evaluation) -> FinalState:
    """The champion's health with its findings; the list of runs shows a degraded one."""
    words = f"{evaluation.health.replace('_', ' ')}: {' '.join(evaluation.findings)}"
    return completed(words, "Degraded" if evaluation.health == "degraded" else "Completed")
