"""Waiting for what comes by itself. The limits are generous: a busy machine is slow, and that is no mistake of ours."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(look: Callable[[], T], limit_seconds: float = 300, *, poll_seconds: float = 0.1, what: str = "it") -> T:
    """The first answer that is true."""
    deadline = time.monotonic() + limit_seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what} did not come in {limit_seconds:.0f} s"
        time.sleep(poll_seconds)
    return found
