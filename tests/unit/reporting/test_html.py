"""Pages: whole, escaped, and without a word to anyone."""

import re
from base64 import b64decode
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from liftloop.reporting.html import Figures, Plot, Section, Table, Text, render_report
from liftloop.reporting.plots import interval_plot, reliability_plot
from liftloop.stats.interval import Interval
from liftloop.stats.scoring import ReliabilityBin

BINS = [ReliabilityBin(10, 0.01, 0.02), ReliabilityBin(10, 0.03, 0.025)]
EVIL = "<script>alert('x')</script>"


class Tags(HTMLParser):
    """Collects tags and attributes, and sees that tags close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page_with_everything() -> str:
    sections: list[Section] = [
        Figures({"rows": 12345, EVIL: EVIL, "rate": 0.012345678, "nothing": None, "verdict": "promote"}),
        Table(EVIL, [EVIL, "verdict"], [[EVIL, "fail"], ["y", "not_applicable"]], note=EVIL),
        Plot("plot", reliability_plot(BINS), EVIL),
        Text(EVIL, [EVIL]),
    ]
    return render_report(EVIL, sections, subtitle=EVIL, verdict="refuse")


def test_values_are_escaped_wherever_they_stand() -> None:
    page = page_with_everything()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 9
    assert Tags(page).open == []


def test_a_page_loads_nothing() -> None:
    tags = Tags(page_with_everything())
    addresses = [value for _, name, value in tags.attributes if name in {"src", "href", "srcset", "action"}]
    assert addresses
    assert all(address.startswith("data:") for address in addresses)
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'; img-src data:") in tags.attributes
    assert "@import" not in page_with_everything()


def test_figures_are_written_for_readers() -> None:
    page = page_with_everything()
    assert all(figure in page for figure in ("12,345", "0.01235", "–"))


@pytest.mark.parametrize(
    ("word", "badge"),
    [("pass", "good"), ("refuse", "bad"), ("inconclusive", "unsure"), ("not_applicable", "quiet")],
)
def test_verdicts_are_badges(word: str, badge: str) -> None:
    page = render_report("t", [Table("", ["verdict"], [[word]])])
    assert f'<span class="badge {badge}">{word.replace("_", " ")}</span>' in page


def test_columns_of_figures_align_to_the_right() -> None:
    columns = ["name", "count", "interval", "mixed"]
    table = Table("", columns, [["a", 1, "1.5% [1%, 2%]", 1], ["b", 22, "–", "three"]])
    assert table.alignments == ["", "number", "number", ""]


def test_limits_stand_apart_from_the_estimate() -> None:
    page = render_report("t", [Table("", ["value"], [["1.5% [1%, 2%]"]])])
    assert re.search(r'1\.5%\s+<span class="limits">\[1%, 2%\]</span>', page)


@pytest.mark.parametrize(
    "svg",
    [reliability_plot(BINS), interval_plot({"a": Interval(1, 0, 2), "b & c": Interval(2, 1, 3)}, guide=1, label="x")],
    ids=["reliability", "intervals"],
)
def test_plots_are_svg_and_load_nothing(svg: bytes) -> None:
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    links = [value for element in root.iter() for name, value in element.attrib.items() if name.endswith("href")]
    assert all(link.startswith("#") for link in links)
    uri = Plot("", svg, "").data_uri
    assert b64decode(uri.partition(",")[2]) == svg


def test_plots_are_the_same_for_the_same_data() -> None:
    assert reliability_plot(BINS) == reliability_plot(BINS)
