"""Features → training frame → model → verdict → champion, or challenger."""

from tasks.approval import approve
from tasks.exclusive import exclusive_run
from tasks.final_state import FinalState
from tasks.flow import ALL_SOURCES, recorded_flow
from tasks.gate import judge_version, verdict_state
from tasks.registry import challenge, promote, read_champion
from tasks.training import build_frame, train_model


@recorded_flow
def train(source: str) -> FinalState:
    """Train on all matured impressions, judge the model, and promote it if the evidence supports it.

    If the evidence is inconclusive, the model becomes challenger.

    One run trains at a time, across all sources; while one waits for approval, others may train.
    """
    with exclusive_run(ALL_SOURCES):  # a training uses all cores of the machine
        frame = build_frame(source)
        version = train_model(source, frame)
        champion = read_champion(source)
        verdict = judge_version(source, version, champion)
    verdict = approve(verdict, champion)
    promote(verdict, champion)
    challenge(verdict, champion)
    return verdict_state(verdict, champion)
