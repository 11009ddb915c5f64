"""Matured impressions → KPIs, the champion's health, a report and an event."""

from tasks.evaluation import (
    announce_health,
    evaluate_matured,
    health_state,
    report_evaluation,
    write_evaluation,
)
from tasks.exclusive import exclusive_run
from tasks.final_state import FinalState
from tasks.flow import recorded_flow


@recorded_flow
def evaluate(source: str) -> FinalState:
    """Evaluate impressions matured since the last evaluation, one run at a time; without new data, report nothing."""
    with exclusive_run(source):
        evaluation = evaluate_matured(source)
        if evaluation.health != "no_new_data":
            report_evaluation(evaluation)
            announce_health(evaluation)
            write_evaluation(evaluation)  # last, so that an evaluation that was not announced is repeated
        return health_state(evaluation)
