"""Self-contained HTML pages: one file with embedded styles and plots, which works offline and loads nothing."""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined

from liftloop.storage.store import Store

_TONES = {
    "good": ("pass", "promote", "healthy", "valid", "completed"),
    "bad": ("fail", "refuse", "degraded", "quarantined", "failed"),
    "unsure": ("warning", "inconclusive", "untrustworthy", "no_champion", "no_new_data"),
    "quiet": ("not_applicable", "reused"),
}
_TONE_OF = {word: tone for tone, words in _TONES.items() for word in words}
_FIGURE = re.compile(r"[-+−]?\d[\d.,]*( ?%)?( \[.*\])?|–")


@dataclass(frozen=True)
class Figures:
    """A row of key figures, by label."""

    kind: ClassVar[str] = "figures"
    values: Mapping[str, object]
    heading: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells. Verdicts such as `pass` become coloured badges, figures are right-aligned."""

    kind: ClassVar[str] = "table"
    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""

    @property
    def alignments(self) -> list[str]:
        """A style class per column: columns that contain only figures are right-aligned."""
        cells = ([row[position] for row in self.rows] for position in range(len(self.columns)))
        return ["number" if all(map(_is_figure, column)) else "" for column in cells]


@dataclass(frozen=True)
class Plot:
    """An SVG image from `liftloop.reporting.plots`; the caption is also its alternative text."""

    kind: ClassVar[str] = "plot"
    heading: str
    svg: bytes
    caption: str

    @property
    def data_uri(self) -> str:
        return "data:image/svg+xml;base64," + b64encode(self.svg).decode()


@dataclass(frozen=True)
class Text:
    kind: ClassVar[str] = "text"
    heading: str
    paragraphs: Sequence[str]


@dataclass(frozen=True)
class Points:
    """A list of independent sentences."""

    kind: ClassVar[str] = "points"
    heading: str
    points: Sequence[str]


@dataclass(frozen=True)
class Code:
    """Preformatted lines, such as commands."""

    kind: ClassVar[str] = "code"
    heading: str
    text: str


Section = Figures | Table | Plot | Text | Points | Code


def render_report(title: str, sections: Sequence[Section], *, subtitle: str = "", verdict: str = "") -> str:
    """One HTML page. Every value is escaped; `verdict` becomes a badge next to the title."""
    page = _environment().get_template("report.html")
    return page.render(title=title, subtitle=subtitle, verdict=verdict, sections=sections)


def copy_page(store: Store, key: str) -> Path:
    """Copy a page from the store into `home`, for a browser on this machine; returns its path."""
    path = store.settings.home / key
    path.parent.mkdir(parents=True, exist_ok=True)
    store.download(key, path)
    return path


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("liftloop.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": _shown, "tone": _tone}
    environment.tests["figure"] = _is_figure
    return environment


def _shown(value: object) -> str:
    """A value for display: thousands separated, four significant digits, underscores in verdicts as spaces."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("_", " ") if _tone(value) else str(value)


def _tone(value: object) -> str:
    return _TONE_OF.get(value, "") if isinstance(value, str) else ""


def _is_figure(value: object) -> bool:
    return _FIGURE.fullmatch(_shown(value)) is not None
