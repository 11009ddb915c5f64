"""Features → training frame → model → verdict → champion, or challenger."""

from tasks.approval import approve
from tasks.exclusive import exclusive_run
from tasks.flow import ALL_SOURCES, recorded_flow
from tasks.gate import judge_version
from tasks.registry import challenge, promote, read_champion
from tasks.training import build_frame, train_model


@recorded_flow
def train(source: str) -> None:
    """Train on all that has matured, judge the model, and promote it if the evidence says so.

    Where the evidence cannot tell, the model becomes challenger.

    One run at a time trains, of whichever source; while one waits for approval, others may.
    """
    with exclusive_run(ALL_SOURCES):  # it takes all cores of the machine
        frame = build_frame(source)
        version = train_model(source, frame)
        champion = read_champion(source)
        verdict = judge_version(source, version, champion)
    verdict = approve(verdict, champion)
    promote(verdict, champion)
    challenge(verdict, champion)
