"""Matured impressions → KPIs, the champion's health, a report and an event."""

from prefect import flow

from tasks.evaluation import announce_health, evaluate_matured, keep_evaluation, report_evaluation
from tasks.record import record_run
from tasks.turn import turn


@flow(name="evaluate", log_prints=True)
def evaluate(source: str) -> None:
    """Evaluate what matured since the last evaluation; where nothing did, nothing is reported; one run at a time."""
    with record_run(source) as run, turn(source):
        evaluation, step = evaluate_matured(source)
        run.steps.append(step)
        print(evaluation.health, *evaluation.findings)
        if evaluation.health != "no_new_data":
            run.steps.append(report_evaluation(evaluation))
            announce_health(evaluation)
            run.steps.append(keep_evaluation(evaluation))  # last: what was not announced is evaluated again
