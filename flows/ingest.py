"""Landed objects → lake and quarantine."""

from tasks.exclusive import exclusive_run
from tasks.final_state import FinalState
from tasks.flow import recorded_flow
from tasks.landing import (
    announce_impressions,
    count_held,
    count_waiting_outcomes,
    ingest_state,
    ingest_waiting,
    read_lake,
    report_ingest,
    require_all_ingested,
    require_lookups,
)


@recorded_flow
def ingest(source: str) -> FinalState:
    """Ingest all landed files of a source that are not in the lake yet; one run at a time."""
    with exclusive_run(source):
        lake = read_lake(source)
        results = ingest_waiting(lake)
        announce_impressions(lake)
        report_ingest(source, results)
        held = count_held(lake)
        require_all_ingested(results)
        require_lookups(lake)
        outcomes_waiting = count_waiting_outcomes(lake, results)
        return ingest_state(source, results, held, outcomes_waiting)
