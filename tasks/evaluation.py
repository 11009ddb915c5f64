"""What matured since the last evaluation, and the champion's health."""

from prefect import task
from prefect.events import emit_event

from liftloop.contract import load_contract
from liftloop.evaluation import evaluate as library
from liftloop.evaluation.evaluate import Evaluation
from liftloop.evaluation.report import evaluation_page, kpi_rows
from liftloop.runs import Step
from liftloop.store import open_store
from tasks.record import publish_page, publish_table


@task
def evaluate_matured(source: str) -> tuple[Evaluation, Step]:
    """KPIs of what matured, and how the champion did on it."""
    return library.evaluate(open_store(), load_contract(source))


@task
def report_evaluation(evaluation: Evaluation) -> Step:
    """The page and the KPIs in the UI."""
    source = evaluation.source
    publish_table(source, "evaluation", kpi_rows(evaluation), f"KPIs of {source}: {evaluation.health}")
    return publish_page(source, "evaluation", evaluation_page(load_contract(source), evaluation))


@task
def announce_health(evaluation: Evaluation) -> None:
    """Emit `model.healthy` or `model.degraded`, for automations to act on."""
    if evaluation.champion is None:
        return
    emit_event(
        event=f"model.{evaluation.health}",
        resource={
            "prefect.resource.id": f"liftloop.model.{evaluation.source}",
            "prefect.resource.name": f"{evaluation.source} {evaluation.champion.version}",
        },
        payload=evaluation.model_dump(mode="json", include={"source", "since", "until", "findings", "champion"}),
    )


@task
def keep_evaluation(evaluation: Evaluation) -> Step:
    """Put it on record: the next evaluation begins where this one ends."""
    return library.keep_evaluation(open_store(), evaluation)
