"""What becomes of a source's training, in one sentence: why it is not due, waits, runs or failed."""

from collections.abc import Sequence
from datetime import datetime

from liftloop.operations.pending_work import SourceState
from liftloop.reporting.words import counted, in_words
from liftloop.storage.runs import Manifest


def training_progress(state: SourceState, now: datetime) -> str:
    """The sentence, read from the store alone. Every training since the features in service is considered."""
    known = state.materialized
    if known is None:
        return "waits for the first features"
    if known.retraining is None:
        return f"not due: {known.resting}" if known.resting else "not due"
    return _of_runs(state.trainings, now) or f"due, and no run has begun: {known.retraining}"


def _of_runs(runs: Sequence[Manifest], now: datetime) -> str | None:
    """The newest completed run, else the newest one under way, else the failures; None: there was none."""
    by_status = {run.status: run for run in runs}  # the newest of each, because they are sorted by start
    if (done := by_status.get("completed")) and done.ended_at:
        return f"done {in_words(now - done.ended_at)} ago"
    if running := by_status.get("running"):
        waits = f"waits for its turn behind {running.waits_behind}" if running.waits_behind else "under way"
        return f"{waits}, started {in_words(now - running.started_at)} ago"
    return failure_words(runs)


def failure_words(runs: Sequence[Manifest]) -> str | None:
    """How often the due training has failed, and the last error; None: it has not, or has succeeded since."""
    failed = [run for run in runs if run.status in ("failed", "crashed")]
    if not failed or any(run.status == "completed" for run in runs):
        return None
    error = (failed[-1].error or failed[-1].status).partition("\n")[0]
    return f"the due training has failed {counted(len(failed), 'time')}; the last: {error}"
