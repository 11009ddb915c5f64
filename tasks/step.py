"""The project's task decorator: it logs a summary of each step, and retries transient errors."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import wraps
from time import perf_counter
from typing import Any, ParamSpec, TypeVar

from botocore.exceptions import ClientError
from prefect import Task, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from liftloop.errors import UserError
from liftloop.storage.runs import Step, listening

# Libraries that talk to a part: their errors are about the part. DuckDB's errors are recognized by name.
_PARTS = {"botocore", "distributed", "httpcore", "httpx", "prefect", "psycopg", "redis", "sqlalchemy", "sqlite3"}
_OF_DUCKDB = {"HTTPException", "IOException"}

P = ParamSpec("P")
R = TypeVar("R")


def step(function: Callable[P, R]) -> Task[P, R]:
    """A Prefect task that logs one line with its counts and seconds.

    It survives about a minute without a part: retries follow after 5, 10, 20 and 40 s, with jitter.
    """

    @wraps(function)
    def logged(*args: P.args, **kwargs: P.kwargs) -> R:
        started, steps = perf_counter(), list[Step]()
        with listening(steps.extend):
            result = function(*args, **kwargs)
        print(summary(function.__name__, steps, perf_counter() - started))  # the flow logs prints
        return result

    decorate = task(
        retries=4,
        retry_delay_seconds=exponential_backoff(5),
        retry_jitter_factor=0.5,
        retry_condition_fn=_is_retryable,
    )
    return decorate(logged)


def summary(name: str, steps: Sequence[Step], seconds: float) -> str:
    """One line: `update_tiles: 3 partitions built, 12 partitions reused, 0.6 s`."""
    counts: Counter[str] = Counter()
    for each in steps:
        counts.update({key: value for key, value in each.metrics.items() if type(value) is int})
    shown = [f"{value:,} {key.replace('_', ' ')}" for key, value in counts.items()]
    unchanged = ["unchanged"] if steps and all(each.is_reused for each in steps) else []
    return f"{name}: {', '.join([*shown, *unchanged, f'{seconds:.1f} s'])}"


def _is_retryable(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    return is_transient(state.result(raise_on_failure=False))


def is_transient(error: object) -> bool:
    """Whether a retry can succeed: the cause is a part, and not the user's data or our own code."""
    if isinstance(error, ClientError):
        return int(error.response["ResponseMetadata"]["HTTPStatusCode"]) >= 500
    if isinstance(error, UserError):
        return error.is_retryable
    if isinstance(error, OSError):  # no connection, a timeout, a full disk; but not a wrong path
        return not isinstance(error, (FileNotFoundError, FileExistsError, IsADirectoryError, PermissionError))
    library, name = type(error).__module__.partition(".")[0], type(error).__name__
    return library in _PARTS or name in _OF_DUCKDB
