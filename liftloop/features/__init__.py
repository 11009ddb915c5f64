"""Features: hourly tiles, windows over them, and Feast on top, offline and online."""

from typing import TypeVar

import typeguard

T = TypeVar("T")


def _as_it_is(target: T) -> T:
    return target


# Feast marks its classes for typeguard, which would parse and compile every method of theirs anew whenever a process
# imports them: two seconds each time, for checks that mypy has made of our calls.
typeguard.typechecked = _as_it_is  # type: ignore[assignment]
