"""What library functions record with the run that is under way."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from liftloop.storage.runs import Step, listening

P = ParamSpec("P")
R = TypeVar("R")


def with_step(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> tuple[R, Step]:
    """The function's result, and the one step that it recorded."""
    steps: list[Step] = []
    with listening(steps.extend):
        result = function(*args, **kwargs)
    (step,) = steps
    return result, step
