"""The task decorator of this project: what a retry can help is tried again, what is wrong fails at once."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from botocore.exceptions import ClientError
from prefect import Task, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from liftloop.errors import UserError

# The libraries that speak to a part: what they raise is about it. DuckDB's own are told by name.
_PARTS = {"botocore", "distributed", "httpcore", "httpx", "prefect", "psycopg", "redis", "sqlalchemy", "sqlite3"}
_OF_DUCKDB = {"HTTPException", "IOException"}

P = ParamSpec("P")
R = TypeVar("R")


def step(function: Callable[P, R]) -> Task[P, R]:
    """A Prefect task that outlives about a minute without one of the parts: after 5, 10, 20 and 40 s, with jitter."""
    decorate = task(
        retries=4,
        retry_delay_seconds=exponential_backoff(5),
        retry_jitter_factor=0.5,
        retry_condition_fn=_may_pass,
    )
    return decorate(function)


def _may_pass(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    return is_transient(state.result(raise_on_failure=False))


def is_transient(error: object) -> bool:
    """Whether the same call may succeed later: a part failed, and not the user's data or our own code."""
    if isinstance(error, ClientError):
        return int(error.response["ResponseMetadata"]["HTTPStatusCode"]) >= 500
    if isinstance(error, UserError):
        return error.may_pass
    if isinstance(error, OSError):  # no connection, no answer in time, no room on the disk: but not a wrong path
        return not isinstance(error, (FileNotFoundError, FileExistsError, IsADirectoryError, PermissionError))
    library, name = type(error).__module__.partition(".")[0], type(error).__name__
    return library in _PARTS or name in _OF_DUCKDB
