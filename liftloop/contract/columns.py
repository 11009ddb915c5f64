"""Where the values of a canonical column come from."""

import re
from datetime import UTC, datetime
from math import isfinite
from typing import Annotated, Literal, Self
from zoneinfo import available_timezones

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, model_validator

from liftloop.contract.expressions import names_in, require_expression
from liftloop.contract.files import RowFiles, Separator, placeholders, require_pairs_of_braces
from liftloop.storage.frozen import Frozen

EPOCHS = {  # microseconds of each unit, as decimals because a float of microseconds is not exact
    "epoch_seconds": "1000000",
    "epoch_milliseconds": "1000",
    "epoch_microseconds": "1",
    "epoch_nanoseconds": "0.001",
}
_FORMATS = {  # letters of a time pattern (Unicode TR 35; Y and D as most people write them) as strptime's
    "yyyy": "%Y",
    "yy": "%y",
    "MMMM": "%B",
    "MMM": "%b",
    "MM": "%m",
    "M": "%m",
    "dd": "%d",
    "d": "%d",
    "HH": "%H",
    "H": "%H",
    "hh": "%I",
    "h": "%I",
    "mm": "%M",
    "m": "%M",
    "ss": "%S",
    "s": "%S",
    "SSS": "%g",
    "SSSSSS": "%f",
    "SSSSSSSSS": "%n",
    "a": "%p",
    "EEEE": "%A",
    "EEE": "%a",
    "XXX": "%z",
    "Z": "%z",
}
_NO_ZONES = {"Factory", "localtime"}  # a placeholder, and a name for whatever the machine uses
_TOKEN = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|[^A-Za-z']+")


def _parse_zone(value: str) -> str:
    if value not in available_timezones() - _NO_ZONES:
        raise ValueError("a zone is an IANA name such as UTC or Europe/Berlin")
    return value


def _require_scale(value: float) -> float:
    if not isfinite(value) or value == 0:
        raise ValueError("a scale is a number other than 0, such as 0.01")
    return value


def _require_time(value: str) -> str:
    if value != "text" and value not in EPOCHS:
        strptime_format(value)
    return value


def strptime_format(pattern: str) -> str:
    """`yyyy-MM-dd HH:mm` as `%Y-%m-%d %H:%M`.

    Raises:
        ValueError: it has letters without a meaning, or does not tell year, month and day.
    """
    if pattern.count("'") % 2:
        raise ValueError("a quote is opened and not closed; two in a row stand for one")
    pieces = []
    for match in _TOKEN.finditer(pattern):
        token = match[0]
        if match[1] is not None or not token[0].isalpha():
            if token == "'Z'":  # as many write it: it says the zone, whatever the quotes
                pieces.append("%z")
                continue
            spelled = token if match[1] is None else match[1].replace("''", "'") or "'"
            pieces.append(spelled.replace("%", "%%"))
            continue
        token = token.replace("Y", "y").replace("D", "d") if token[0] in "YD" else token
        if token != "T" and token not in _FORMATS:
            allowed = f"text, {', '.join(EPOCHS)}, or a pattern such as yyyy-MM-dd HH:mm:ss.SSS"
            raise ValueError(f"{token!r} has no meaning in a time; allowed: {allowed}")
        pieces.append(_FORMATS.get(token, token))
    spelled = "".join(pieces)
    if "%I" in spelled and "%p" not in spelled:
        raise ValueError("hh counts to 12 and needs a for am or pm; HH counts to 24")
    if not all(re.search(part, spelled) for part in ("%[Yy]", "%[mbB]", "%d")):
        raise ValueError("a pattern names year, month and day, such as yyyyMMddHHmmss")
    return spelled


Scale = Annotated[float, AfterValidator(_require_scale)]
Zone = Annotated[str, BeforeValidator(_parse_zone)]
Template = Annotated[str, AfterValidator(require_pairs_of_braces)]
Expression = Annotated[str, AfterValidator(require_expression)]


class Column(Frozen):
    """Where one canonical value comes from: exactly one of `from`, `template`, `pick`, `sql` and `constant`."""

    from_: str | None = Field(default=None, alias="from")  # a landed column, or a path into JSON: imp[0].tagid
    template: Template | None = None  # landed columns joined as text: "{campaign}:{position}"
    pick: Template | None = None  # the landed column whose name depends on the row: "affinity_{item_id}"
    sql: Expression | None = None  # of landed columns: "yes + no"
    constant: str | int | float | None = None
    separator: Separator | None = None  # of ids in text; None: a list of JSON or Parquet
    scale: Scale | None = None  # multiplies numbers: 0.01 turns cents into currency units
    time: Annotated[str, AfterValidator(_require_time)] = "text"  # ISO 8601, an epoch, or a pattern
    since: AwareDatetime = datetime(1970, 1, 1, tzinfo=UTC)  # where the epoch starts
    zone: Zone = "UTC"  # of times without an offset

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        origins = [self.from_, self.template, self.pick, self.sql, self.constant]
        if sum(origin is not None for origin in origins) != 1:
            raise ValueError("give exactly one of from, template, pick, sql, constant")
        if "since" in self.given and self.time not in EPOCHS:
            raise ValueError(f"since is the start of an epoch: set time to one of {', '.join(EPOCHS)}")
        return self

    @property
    def given(self) -> set[str]:
        """The options that are not at their defaults."""
        return {*self.model_dump(exclude_defaults=True)}

    @property
    def strptime_format(self) -> str:
        """Of the pattern in `time`."""
        return strptime_format(self.time)

    @property
    def origins(self) -> list[str]:
        """The landed columns that it names; those of a `pick` are part of a column's name."""
        if self.sql is not None:
            return names_in(self.sql)
        return [self.from_] if self.from_ else placeholders(self.template or self.pick or "")


class ContextColumn(Column):
    """A column known at decision time. `about` says what it depends on: the request, the ad, or the pair."""

    type: Literal["string", "integer", "float"]
    about: Literal["request", "ad", "pair"] = "request"


OutcomeColumn = Literal["impression_id", "click", "conversion", "revenue", "cost", "outcome_timestamp"]


class OutcomeFiles(RowFiles):
    """Files of clicks, conversions or other outcomes; they join the impressions by id, late or early, once or again.

    Equal rows count once. An impression has a click or conversion if one of its rows has; amounts are summed, and the
    last time counts. Without a row it has none: 0, at the end of the horizon.
    """

    columns: dict[OutcomeColumn, Column]
    event_id: Column | None = None  # of rows with the same one, the last that landed counts
    keep: Expression | None = None

    @model_validator(mode="after")
    def _has_id_and_outcome(self) -> Self:
        if "impression_id" not in self.columns or len(self.columns) == 1:
            raise ValueError("columns are impression_id, and at least one of click, conversion, revenue and cost")
        return self
