"""Every line of a text file is in a record, unreadable, or skipped by the contract."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liftloop.contract.files import FileLayout
from liftloop.landing import framing
from liftloop.landing.framing import Frames, frame
from liftloop.landing.rejection import FileRejectedError


def framed(folder: Path, body: bytes, **layout: Any) -> Frames:
    (folder / "log").write_bytes(body)
    return frame(folder / "log", FileLayout(path="log", **{"format": "csv"} | layout), folder)


def records(frames: Frames) -> list[bytes]:
    return frames.path.read_bytes().splitlines()


@pytest.mark.parametrize(
    ("body", "kept", "refused"),
    [
        (b"a,b\n1,2\n3,4\n", [b"1,2", b"3,4"], []),
        (b"a,b\n1,2\n3,4", [b"1,2", b"3,4"], []),
        (b"\xef\xbb\xbfa,b\r\n1,2\r3,4\n\n\r\n5,6\r\n", [b"1,2", b"3,4", b"5,6"], []),
        (b'a,b\n1,"2\n3,4\n5,6\n', [b"3,4", b"5,6"], [(2, '1,"2')]),
        (b'a,b\n1,"2\n3,4\n5,"6\n7,8\n', [b"3,4", b"7,8"], [(2, '1,"2'), (4, '5,"6')]),
        (b'a,b\n1,5" x\n3,4\n', [b'1,5" x', b"3,4"], []),
        (b'a,b\n5" x,"2\n3,4\n', [b"3,4"], [(2, '5" x,"2')]),
        (b'a,b\n"1"x,"2\n3,4\n', [b"3,4"], [(2, '"1"x,"2')]),
        (b'a,b\n5" x,"2" y"\n3,4\n', [b'5" x,"2" y"', b"3,4"], []),
        (b"a,b\n1,\xff\n3,4\n", [b"3,4"], [(2, "1,\\xff")]),
    ],
)
def test_a_broken_line_costs_itself(
    tmp_path: Path, body: bytes, kept: list[bytes], refused: list[tuple[int, str]]
) -> None:
    frames = framed(tmp_path, body)
    assert (frames.names, records(frames)) == (["a", "b"], kept)
    assert [(each.line, each.raw) for each in frames.unreadable] == refused


def test_a_quoted_value_may_hold_line_breaks(tmp_path: Path) -> None:
    frames = framed(tmp_path, b'a,b\r\n1,"two\r\nlines"\r\n3,4\r\n')
    assert frames.path.read_bytes() == b'1,"two\r\nlines"\n3,4\n'
    assert [frames.line_of(record) for record in range(frames.count)] == [2, 4]


def test_a_quoted_value_with_line_breaks_may_follow_a_stray_quote(tmp_path: Path) -> None:
    assert framed(tmp_path, b'a,b\n5" x,"two\nlines"\n3,4\n').path.read_bytes() == b'5" x,"two\nlines"\n3,4\n'


def test_a_quoted_value_may_be_longer_than_python_reads(tmp_path: Path) -> None:
    value = b'"' + b"x" * 200_000 + b'"'
    frames = framed(tmp_path, b"a,b\n\n1," + value + b"\n3,4\n")
    assert (records(frames), frames.unreadable) == ([b"1," + value, b"3,4"], [])


def test_the_last_byte_of_a_long_delimiter_is_no_delimiter(tmp_path: Path) -> None:
    body = 'a§b\nç"§"2\n3§4\n'.encode()
    assert [each.line for each in framed(tmp_path, body, delimiter="§").unreadable] == [2]


def test_what_the_contract_skips_is_no_record(tmp_path: Path) -> None:
    body = b"A report\nof \"June\n# note\na;b\n1;2\n# it's\n3;4\nTotal;6\n\n"
    frames = framed(tmp_path, body, delimiter=";", skip_rows=3, comment="#", footer=1)
    assert (frames.names, records(frames), frames.unreadable) == (["a", "b"], [b"1;2", b"3;4"], [])
    assert [frames.line_of(record) for record in range(frames.count)] == [5, 7]


def test_a_file_may_have_no_header(tmp_path: Path) -> None:
    assert framed(tmp_path, b"1,2\n3,4\n", header="none").count == 2


def test_tsv_has_no_quotes(tmp_path: Path) -> None:
    assert records(framed(tmp_path, b'a\tb\n"1\t2\n3"\t4\n', format="tsv")) == [b'"1\t2', b'3"\t4']


def test_a_header_that_never_ends_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileRejectedError, match="the header opens a quote"):
        framed(tmp_path, b'a,"b\n1,2\n')


PLAIN = st.text(st.characters(codec="utf-8", exclude_characters='",\r\n\0'), min_size=1, max_size=8)
QUOTED = st.text(st.sampled_from('ab,"\r\n'), max_size=6).map(lambda text: '"' + text.replace('"', '""') + '"')
LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
ROWS = st.lists(st.tuples(PLAIN, PLAIN | QUOTED, LINE_ENDS), max_size=30)
CHUNKS = st.sampled_from([7, 64, 2**20])


@given(ROWS, CHUNKS)
def test_well_formed_records_are_all_kept(tmp_path_factory: pytest.TempPathFactory, rows: Any, chunk: int) -> None:
    """Whatever their line ends, and wherever a chunk ends; a value that is a row itself could be taken for one."""
    written = [(f"{first},{second}", end) for first, second, end in rows if second.count(",") == 0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "_CHUNK_BYTES", chunk)
        body = "a,b\n" + "".join(record + end for record, end in written)
        frames = framed(tmp_path_factory.mktemp("log"), body.encode())
    assert frames.path.read_bytes() == "".join(record + "\n" for record, _ in written).encode()
    assert frames.unreadable == []


@given(st.lists(st.sampled_from([b"1,2", b'3,"4"', b'5,"6', b'"7,8', b"9,\xff", b'1,2"', b'"']), max_size=30), CHUNKS)
def test_every_line_is_found_again(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framing, "_CHUNK_BYTES", chunk)
        frames = framed(tmp_path_factory.mktemp("log"), b"a,b\n" + b"".join(line + b"\n" for line in lines))
    refused = [each.raw.encode("latin-1").decode("unicode_escape").encode("latin-1") for each in frames.unreadable]
    assert sorted([*records(frames), *refused]) == sorted(lines)
