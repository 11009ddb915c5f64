"""When the clock starts the runs of a source."""

import re
from datetime import datetime
from typing import Annotated, Any

from cronsim import CronSim, CronSimError
from pydantic import BeforeValidator

from liftloop.contract.columns import Zone
from liftloop.storage.frozen import Frozen
from liftloop.storage.hashing import fingerprint_of

# Hour 3, because most zones skip or repeat an earlier one when their summer time begins or ends.
_WORDS = {"hourly": "{minute} * * * *", "daily": "{minute} 3 * * *"}
_NONE = "none"
_ALLOWED = f"a schedule is {_NONE}, {', '.join(_WORDS)} or a cron of five fields, such as 30 5 * * mon-fri"
_FIELD = re.compile(
    r"(?:[\d*,/-]|\b[a-z]{3}\b)+", re.IGNORECASE
)  # L, W and #: Prefect refuses some, and never starts others


def _parse_schedule(value: Any) -> str:
    fields = value.split() if isinstance(value, str) else []
    if len(fields) == 1 and fields[0] in (_NONE, *_WORDS):
        return str(fields[0])
    if len(fields) != 5 or not all(map(_FIELD.fullmatch, fields)):
        raise ValueError(_ALLOWED)
    try:
        for weekday in (fields[4], "*"):  # Prefect needs a day that exists even where a weekday is an alternative to it
            CronSim(" ".join([*fields[:4], weekday]), datetime(2000, 1, 1))
    except CronSimError as error:
        raise ValueError(f"{str(error).lower()}; {_ALLOWED}") from None
    return " ".join(fields)


class Timing(Frozen):
    """When one schedule starts runs."""

    cron: str
    timezone: str

    def __str__(self) -> str:
        return f"{self.cron} {self.timezone}"


class Schedules(Frozen):
    """When the clock starts the flows of a source: a cron, or a word for one at a minute of the source's own."""

    train: Annotated[str, BeforeValidator(_parse_schedule)] = "daily"
    evaluate: Annotated[str, BeforeValidator(_parse_schedule)] = "hourly"
    timezone: Zone = "UTC"

    def timings(self, source: str) -> dict[str, Timing]:
        """The timing of each flow, without the flows that are switched off."""
        declared = {"train": self.train, "evaluate": self.evaluate}
        return {
            flow: Timing(cron=_WORDS.get(word, word).format(minute=_minute(flow, source)), timezone=self.timezone)
            for flow, word in declared.items()
            if word != _NONE
        }


def _minute(flow: str, source: str) -> int:
    """Spread over the hour, so that sources do not all start at once, and a new source moves no other."""
    return int(fingerprint_of(flow, source), 16) % 60
