"""Logs each fault once when it starts and once when it clears."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from liftloop.errors import UserError

_EXPECTED = (UserError, httpx.HTTPError, BotoCoreError, ClientError, OSError)
_MOST_CHARACTERS = 300

log = logging.getLogger("bridge")


class Faults:
    """Survives any error: a part that is down, a broken contract, a bug of our own."""

    def __init__(self) -> None:
        self._open: dict[str, str] = {}

    @contextmanager
    def survive(self, what: str) -> Iterator[None]:
        """Continue after any error in the block; the next pass tries again."""
        try:
            yield
        except Exception as error:
            message = f"{type(error).__name__}: {error}".partition("\n")[0][:_MOST_CHARACTERS]
            if self._open.get(what) != message:
                log.warning("%s: %s", what, message, exc_info=not isinstance(error, _EXPECTED))
            self._open[what] = message
        else:
            if self._open.pop(what, None) is not None:
                log.info("%s: recovered", what)
