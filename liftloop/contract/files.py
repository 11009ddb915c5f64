"""How the files of a source, and its reference files, are named and laid out."""

import csv
import re
from collections import Counter
from collections.abc import Iterable
from fnmatch import fnmatch
from typing import Annotated, Literal, Self, TypedDict

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from liftloop.storage.frozen import Frozen
from liftloop.storage.keys import LANDING

FileFormat = Literal["csv", "tsv", "jsonl", "parquet"]
Delimiter = Annotated[str, StringConstraints(pattern=r"^[^\r\n\x00]$")]
Separator = Annotated[str, Field(min_length=1)]
Quote = Annotated[str, StringConstraints(pattern=r"^[!-~]$")]  # DuckDB reads quotes of one byte
_DELIMITERS = {"csv": ",", "tsv": "\t"}
_QUOTES = {"csv": '"', "tsv": None}
_OF_TEXT = ("encoding", "skip_rows", "comment", "footer")
_OF_TABLES = ("header", "delimiter", "quote")
_PART = re.compile(r"{([^{}]*)}")


class Dialect(TypedDict):
    """Arguments of `csv.reader`."""

    delimiter: str
    quotechar: str | None
    quoting: Literal[0, 3]


def placeholders(template: str) -> list[str]:
    """The names in braces, in order: `{campaign}:{position}` -> ["campaign", "position"]."""
    return _PART.findall(template)


def split_template(template: str) -> list[str]:
    """Text and names in turn: `{campaign}:{position}` -> ["", "campaign", ":", "position", ""]."""
    return _PART.split(template)


def repeated_in(names: Iterable[str]) -> list[str]:
    """The names that appear more than once, in order."""
    return [name for name, times in Counter(names).items() if times > 1]


def require_pairs_of_braces(template: str) -> str:
    """The template.

    Raises:
        ValueError: a brace has no partner, or a pair is empty.
    """
    names = placeholders(template)
    if {"{", "}"} & {*_PART.sub("", template)} or any(not name.strip() for name in names):
        raise ValueError("each name stands in a pair of braces, such as {campaign}")
    return template


def _require_path(path: str) -> str:
    names = placeholders(require_pairs_of_braces(path))
    if odd := [name for name in names if not re.fullmatch(r"[a-z_][a-z0-9_]*", name, re.IGNORECASE)]:
        raise ValueError(f"the parts {odd} are not names: use letters, digits and _")
    if repeated := sorted(repeated_in(names)):
        raise ValueError(f"the parts {repeated} appear more than once")
    if odd := sorted({*path} & {*"*?"}):
        raise ValueError(f"{odd} match only themselves: write {{name}} where names differ")
    if path.startswith(("/", LANDING)):
        raise ValueError(f"the path starts below {LANDING}<source>/")
    if "row" in names:
        raise ValueError("{row} is the number of the row in its file: give the part another name")
    return path


class FileLayout(Frozen):
    """The names of files, by a pattern with named parts, and how their rows are written."""

    path: Annotated[str, AfterValidator(_require_path)]
    format: FileFormat
    encoding: Literal["utf-8", "utf-16", "utf-16-le", "utf-16-be", "latin-1"] = "utf-8"
    header: Literal["first_line", "none"] | tuple[str, ...] = "first_line"  # none: the columns are named 1, 2, …
    delimiter: Delimiter | None = None  # None: a comma in csv, a tab in tsv
    quote: Quote | Literal["none"] | None = None  # None: " in csv, none in tsv
    skip_rows: Annotated[int, Field(ge=0, le=1000)] = 0  # lines before the header
    comment: Annotated[str, Field(min_length=1)] | None = None  # lines that start with it are no rows
    footer: Annotated[int, Field(ge=0, le=1000)] = 0  # lines after the last row
    null_values: tuple[str, ...] = ()  # texts that stand for a missing value
    decimal: Literal[".", ","] = "."
    thousands: Literal[",", ".", " ", "'", "_"] | None = None  # between groups of digits

    @model_validator(mode="after")
    def _options_fit_the_format(self) -> Self:
        unused = {"parquet": (*_OF_TEXT, *_OF_TABLES), "jsonl": _OF_TABLES}.get(self.format, ())
        if given := [name for name in unused if name in self.model_dump(exclude_defaults=True)]:
            raise ValueError(f"{given} mean nothing in {self.format} files: remove them")
        if isinstance(self.header, tuple) and (repeated := repeated_in(map(str.lower, self.header))):
            raise ValueError(f"header names {repeated} more than once; names that differ in case alone are one")
        if isinstance(self.header, tuple) and not all(self.header or ("",)):
            raise ValueError("header has a name for each column, or is none")
        if self.quote_character and self.quote_character == self.separator:
            raise ValueError(f"delimiter and quote are both {self.separator!r}: they must differ")
        if self.thousands == self.decimal:
            raise ValueError(f"decimal and thousands are both {self.decimal!r}: they must differ")
        return self

    @property
    def has_header(self) -> bool:
        """Whether the first line names the columns."""
        return self.format in _DELIMITERS and self.header == "first_line"

    @property
    def separator(self) -> str | None:
        """Between the values of a row; None for formats without one."""
        return self.delimiter or _DELIMITERS.get(self.format)

    @property
    def quote_character(self) -> str | None:
        """Around values that may hold separators and line breaks; None: there is none."""
        return None if self.quote == "none" else self.quote or _QUOTES.get(self.format)

    @property
    def dialect(self) -> Dialect:
        """For Python's `csv` module."""
        quote = self.quote_character
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
        return {"delimiter": self.separator or "\0", "quotechar": quote, "quoting": quoting}

    def path_parts(self, relative_key: str) -> dict[str, str] | None:
        """The named parts of a key relative to the source's prefix, or None if it does not match."""
        pieces = split_template(self.path)
        named = (re.escape(piece) if i % 2 == 0 else f"(?P<{piece}>[^/]+)" for i, piece in enumerate(pieces))
        match = re.fullmatch("".join(named), relative_key)
        return match.groupdict() if match else None


# What Spark, Hadoop and object stores leave beside data.
_NO_DATA = (
    "_SUCCESS",
    "_committed_*",
    "_started_*",
    "_temporary*",
    ".*",
    "*.crc",
    "*_$folder$",
    "_metadata",
    "_common_metadata",
)


class Explode(Frozen):
    """A column whose value is a list; each of its elements becomes a row, beside the other columns."""

    column: str
    separator: Separator | None = None  # of elements in text; None: a list of JSON or Parquet
    position: str = "position"  # the name of the landed column with the place of the element, from 1


class RowFiles(FileLayout):
    """Files whose rows are read one by one. The named parts of `path` become landed columns."""

    explode: Explode | None = None


class Landing(RowFiles):
    """The files of impressions under `landing/<source>/`."""

    ignore: tuple[str, ...] = _NO_DATA  # patterns of the names of files that hold no rows

    def is_ignored(self, relative_key: str) -> bool:
        """Whether the file's name, or one of its folders', matches a pattern of `ignore`."""
        return any(fnmatch(name, pattern) for name in relative_key.split("/") for pattern in self.ignore)


class Lookup(FileLayout):
    """A reference file joined to every row; named parts in `path` are filled from the impressions file's own path."""

    match: Annotated[dict[str, str], Field(min_length=1)]  # landed column -> column of the reference file
