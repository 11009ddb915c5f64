"""What is out of order is said once when it begins and once when it ends, however often it is met."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from liftloop.errors import UserError

_FORESEEN = (UserError, httpx.HTTPError, BotoCoreError, ClientError, OSError)
_MOST_CHARACTERS = 300

log = logging.getLogger("bridge")


class Faults:
    """Outlives whatever fails: a part that is down, a broken contract, a mistake of our own."""

    def __init__(self) -> None:
        self._open: dict[str, str] = {}

    @contextmanager
    def outlive(self, what: str) -> Iterator[None]:
        """Go on after any error in the block; it is tried again by the next pass."""
        try:
            yield
        except Exception as error:
            said = f"{type(error).__name__}: {error}".partition("\n")[0][:_MOST_CHARACTERS]
            if self._open.get(what) != said:
                log.warning("%s: %s", what, said, exc_info=not isinstance(error, _FORESEEN))
            self._open[what] = said
        else:
            if self._open.pop(what, None) is not None:
                log.info("%s: in order again", what)
