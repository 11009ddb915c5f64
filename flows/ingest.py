"""Landed objects → lake and quarantine."""

from prefect import flow

from tasks.landing import (
    announce_impressions,
    ingest_objects,
    list_waiting,
    refuse_held_back,
    refuse_incomplete,
    remind_of_held,
    report_ingest,
)
from tasks.record import record_run
from tasks.turn import turn


@flow(name="ingest", log_prints=True)
def ingest(source: str) -> None:
    """Ingest whatever has landed for a source and is not in the lake yet; one run at a time."""
    with record_run(source) as run, turn(source):
        results = []
        while waiting := list_waiting(source):  # what lands meanwhile is of this run, too
            results += [ingest_objects(source, batch) for batch in waiting]
        run.steps += [step for result in results for step in result.steps]
        announce_impressions(source)
        if results:
            run.steps.append(report_ingest(source, results))
        remind_of_held(source)
        refuse_held_back(results)
        refuse_incomplete(source)
