"""Features → training frame → model → verdict → champion, or challenger."""

from prefect import flow

from tasks.approval import approve
from tasks.gate import judge_version
from tasks.record import record_run
from tasks.registry import challenge, promote, read_champion
from tasks.training import build_frame, train_model
from tasks.turn import turn


@flow(name="train", log_prints=True)
def train(source: str) -> None:
    """Train on all that has matured, judge the model, and promote it if the evidence says so.

    Where the evidence cannot tell, it is to be tried against the champion.

    One run at a time trains, of whichever source; while one waits for approval, others may.
    """
    with record_run(source) as run:
        with turn("all"):  # it takes all cores of the machine
            frame, step = build_frame(source)
            run.steps.append(step)
            version, step = train_model(source, frame)
            run.steps.append(step)
            champion = read_champion(source)
            verdict, step = judge_version(source, version, champion)
            run.steps.append(step)
        verdict, steps = approve(verdict, champion)
        run.steps += steps + promote(verdict, champion) + challenge(verdict, champion)
