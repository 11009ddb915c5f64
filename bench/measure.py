"""How benchmarks measure and report: rounds take turns, each in a process of its own; JSON is the last line."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from math import inf
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

ROUNDS = 3
console = Console(width=120)


@dataclass(frozen=True)
class Sample:
    """One round: the median round, where it stands for several."""

    seconds: float
    peak_bytes: int
    cpu_seconds: float  # of this process alone


@dataclass(frozen=True)
class Case:
    """One claim. The ratio is ours over the peer's; where more is better (`is_rate`) it has to reach the goal."""

    case: str
    ours: float
    peer: float
    goal: float
    unit: str
    is_rate: bool = False

    @property
    def ratio(self) -> float:
        return self.ours / self.peer

    @property
    def holds(self) -> bool:
        return self.ratio >= self.goal if self.is_rate else self.ratio <= self.goal


def interleaved(contestants: Mapping[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, Sample]:
    """Median seconds and peak memory of each contestant; they take turns, so that a busy spell hits all of them.

    Args:
        contestants: by name, what to run; functions of a module, or `functools.partial` of them. Each prepares
            nothing: what it imports before it is called is not counted if its module does it.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in contestants}
    for number in range(1, rounds + 1):
        for name, run in contestants.items():
            samples[name].append(in_fresh_process(run))
            last = samples[name][-1]
            console.print(f"round {number}  {name:<40} {last.seconds:8.2f} s  {last.peak_bytes / 2**20:8,.0f} MiB")
    return {name: median_of(each) for name, each in samples.items()}


def in_fresh_process(run: Callable[[], Any]) -> Sample:
    """Run it once in a new process, so that its peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_timed, run).result()


def _timed(run: Callable[[], Any]) -> Sample:
    started, cpu_started = time.perf_counter(), time.process_time()
    run()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    return Sample(seconds, peak_bytes(), cpu_seconds)


def peak_bytes() -> int:
    """Of this process since it was started; `ru_maxrss` would begin with the parent's."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def median_of(samples: Sequence[Sample]) -> Sample:
    """The median of each figure."""
    seconds = median(sample.seconds for sample in samples)
    peak, cpu_seconds = (median(sample.peak_bytes for sample in samples), median(s.cpu_seconds for s in samples))
    return Sample(seconds, int(peak), cpu_seconds)


def report(bench: str, cases: Sequence[Case], **details: Any) -> None:
    """A table of the cases; then, as the last line, all as JSON, led by the case that is furthest from its goal."""
    print_table(bench, cases)
    worst = max(cases, key=_distance)
    print(json.dumps({"bench": bench, **_json(worst), **details, "cases": [_json(case) for case in cases]}))


def _distance(case: Case) -> float:
    """How far a case is from its goal, as a factor."""
    if not case.is_rate:
        return case.ratio / case.goal
    return case.goal / case.ratio if case.ratio else inf


def print_table(title: str, cases: Sequence[Case]) -> None:
    """What was claimed, what was measured, and whether it holds."""
    table = Table("case", "ours", "peer", "ratio", "goal", "holds", box=None, title=title, title_justify="left")
    for case in cases:
        goal = f"{'≥' if case.is_rate else '≤'} {case.goal:g}"
        row = (case.case, f"{case.ours:,.4g} {case.unit}", f"{case.peer:,.4g} {case.unit}", f"{case.ratio:.3g}", goal)
        table.add_row(*row, "yes" if case.holds else "NO")
    console.print(table)


def _json(case: Case) -> dict[str, Any]:
    numbers = {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(case).items()}
    return numbers | {"ratio": round(case.ratio, 4), "holds": case.holds}
