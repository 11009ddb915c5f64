"""Landed objects → lake and quarantine."""

from prefect import flow
from prefect.concurrency.sync import concurrency

from tasks.landing import ingest_objects, list_waiting, refuse_held_back, remind_of_held, report_ingest
from tasks.record import record_run


@flow(name="ingest", log_prints=True)
def ingest(source: str) -> None:
    """Ingest whatever has landed for a source and is not in the lake yet; one run at a time."""
    with record_run(source) as run, concurrency(f"ingest-{source}", lease_duration=60):
        results = [ingest_objects(source, batch) for batch in list_waiting(source)]
        run.steps += [step for result in results for step in result.steps]
        if results:
            run.steps.append(report_ingest(source, results))
        remind_of_held(source)
        refuse_held_back(results)
