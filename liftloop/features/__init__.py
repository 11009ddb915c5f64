"""Features: hourly tiles, windows over them, and Feast on top, offline and online."""

from typing import TypeVar

import typeguard

T = TypeVar("T")


def _as_it_is(target: T) -> T:
    return target


# Feast decorates its classes with typeguard, which parses and compiles every method again in each process that imports
# them: two seconds, for checks that mypy already makes of our calls.
typeguard.typechecked = _as_it_is  # type: ignore[assignment]
