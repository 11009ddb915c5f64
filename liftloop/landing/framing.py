"""Framing: which lines of a text file make up a record, decided before anything parses them.

Every line is in a record, unreadable, or skipped by the contract; a quote that is never closed costs its own line and
not the rest of the file. Line ends may be LF, CRLF or CR, mixed.
"""

import csv
import io
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from liftloop.contract.files import FileLayout
from liftloop.landing.rejection import FileRejectedError

_CHUNK_BYTES = 16 * 2**20
_LONGEST_LINE_BYTES = 4 * _CHUNK_BYTES
_LONGEST_RECORD_BYTES = 2**20  # of a record that spans lines: in a longer one, a quote is never closed
_LINE_END = re.compile(rb"\r\n?|\n")
_UNCLOSED = "a quote is opened and not closed"
_NOT_UTF8 = "not valid UTF-8"


@dataclass(frozen=True)
class Unreadable:
    """A line that is no record: its number in the file, from 1, and its bytes as text, with `\\xNN` if not UTF-8."""

    line: int
    raw: str
    reason: str


@dataclass
class Frames:
    """The records of a file, in `path` as UTF-8 with `\\n` between them, and the lines that are not among them."""

    path: Path
    names: list[str] | None = None  # of the columns, from the header
    count: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)
    _first: list[int] = field(default_factory=list)  # the first record of each chunk
    _lines: list[Sequence[int]] = field(default_factory=list)  # of the records of each chunk

    def add(self, lines: Sequence[int]) -> None:
        """Append the records that start on these lines."""
        self._first.append(self.count)
        self._lines.append(lines)
        self.count += len(lines)

    def line_of(self, record: int) -> int:
        """The number in the landed file, from 1, of the line where a record, from 0, starts."""
        chunk = bisect_right(self._first, record) - 1
        return self._lines[chunk][record - self._first[chunk]]


def frame(path: Path, layout: FileLayout, folder: Path) -> Frames:
    """Write the records of a file in UTF-8 to `folder`, and report every line that is no record.

    Raises:
        FileRejectedError: a line is too long to be read, or the header is not closed.
    """
    framer = _Framer(layout, Frames(folder / "records"))
    with path.open("rb") as landed, framer.frames.path.open("wb") as records:
        for piece in framer.pieces(landed, path.stat().st_size):
            records.write(piece)
    return framer.frames


@dataclass
class _Framer:
    layout: FileLayout
    frames: Frames
    line: int = 1  # the number of the next line

    def __post_init__(self) -> None:
        self.quote, self.comment = _bytes(self.layout.quote_character), _bytes(self.layout.comment)
        self.delimiter = (self.layout.separator or "").encode()

    def pieces(self, landed: BinaryIO, size_bytes: int) -> Iterator[bytes]:
        """The records, chunk by chunk."""
        stop = size_bytes - _footer_bytes(landed, size_bytes, self.layout.footer)
        buffer = landed.read(min(_CHUNK_BYTES, stop)).removeprefix(b"\xef\xbb\xbf")
        buffer = buffer[self._head_bytes(buffer) :]
        while True:
            is_last = landed.tell() == stop
            piece, used = self._cut(buffer, is_last)
            yield piece
            if is_last:
                return
            if len(buffer) - used > _LONGEST_LINE_BYTES:
                raise FileRejectedError(f"line {self.line:,} is longer than {_LONGEST_LINE_BYTES:,} bytes")
            buffer = buffer[used:] + landed.read(min(_CHUNK_BYTES, stop - landed.tell()))

    def _head_bytes(self, buffer: bytes) -> int:
        """The bytes of the lines to skip and of the header, whose names are kept."""
        start = 0
        for skipped in islice(_LINE_END.finditer(buffer), self.layout.skip_rows):
            start, self.line = skipped.end(), self.line + 1
        if not self.layout.has_header:
            return start
        while self.comment and buffer.startswith(self.comment, start) and (end := _LINE_END.search(buffer, start)):
            start, self.line = end.end(), self.line + 1
        for end in [*islice(_LINE_END.finditer(buffer, start), 100), None]:
            stop, after = end.span() if end else (len(buffer), len(buffer))
            self.line += 1
            if stop - start > _LONGEST_RECORD_BYTES:
                raise FileRejectedError(f"the header is longer than {_LONGEST_RECORD_BYTES:,} bytes")
            fields = self._fields(buffer[start:stop])
            if fields is not None:
                self.frames.names = fields
                return after
        raise FileRejectedError("the header opens a quote and does not close it")

    def _cut(self, buffer: bytes, is_last: bool) -> tuple[bytes, int]:
        """The records of a buffer, and the number of bytes that were consumed."""
        end = len(buffer) if is_last else buffer.rfind(b"\n") + 1
        lines = buffer[:end]
        if not self._has_record_per_line(lines):
            return self._cut_by_line(buffer, is_last)
        records = lines.replace(b"\r\n", b"\n")
        records += b"" if records.endswith(b"\n") or not records else b"\n"
        count = records.count(b"\n")
        self.frames.add(range(self.line, self.line + count))
        self.line += count
        return records, end

    def _has_record_per_line(self, lines: bytes) -> bool:
        """Whether each line is a record as it stands, decided without a loop over the lines; usually true."""
        has_blank = lines.startswith((b"\n", b"\r")) or b"\n\n" in lines or b"\n\r" in lines
        has_comment = self.comment is not None and self.comment in lines
        has_other_ends = b"\r" in lines and lines.count(b"\r") != lines.count(b"\r\n")
        if has_blank or has_comment or has_other_ends:
            return False
        return _is_utf8(lines) and self._are_quotes_closed(lines)

    def _are_quotes_closed(self, lines: bytes) -> bool:
        """Whether every line has an even number of quotes, and each opening quote is at the start of a value."""
        if self.quote is None or self.quote not in lines:
            return True
        values = np.frombuffer(b"\n" + lines, np.uint8)
        quotes = np.flatnonzero(values == ord(self.quote))
        before = np.searchsorted(quotes, np.flatnonzero(values == ord("\n")))
        if len(quotes) % 2 or (before % 2).any() or len(self.delimiter) != 1:
            return False
        starts = np.frombuffer(b"\n" + self.delimiter + self.quote, np.uint8)
        return bool(np.isin(values[quotes[::2] - 1], starts).all())

    def _cut_by_line(self, buffer: bytes, is_last: bool) -> tuple[bytes, int]:
        lines = buffer.splitlines(keepends=True)
        if not is_last and lines and not lines[-1].endswith(b"\n"):
            lines.pop()  # it may go on in the next chunk, if only with the LF of a CRLF
        records, starts, used, at = list[bytes](), list[int](), 0, 0
        while at < len(lines):
            length = self._length(lines, at, is_last)
            if length is None:
                break
            covered = length or 1
            record = b"".join(lines[at : at + covered])
            if (reason := self._refusal(record, length)) is not None:
                self.frames.unreadable.append(Unreadable(self.line, _shown(record), reason))
            elif self._is_kept(record):
                records.append(record.rstrip(b"\r\n"))
                starts.append(self.line)
            used, at, self.line = used + len(record), at + covered, self.line + covered
        self.frames.add(starts)
        return b"".join(record + b"\n" for record in records), used

    def _length(self, lines: list[bytes], at: int, is_last: bool) -> int | None:
        """The lines of the record that starts there; 0: it never closes its quote; None: the next chunk may tell."""
        if not self._opens(lines[at]):
            return 1
        size_bytes = len(lines[at])
        for end in range(at + 1, len(lines)):
            size_bytes += len(lines[end])
            if size_bytes > _LONGEST_RECORD_BYTES:
                return 0
            if self._count_quotes(lines[end]) % 2:
                return end - at + 1 if self._is_record(lines[at : end + 1]) else 0
        return 0 if is_last else None

    def _opens(self, line: bytes) -> bool:
        """Whether the line opens a quote and does not close it; a quote within a value, as in `5" x`, opens none."""
        if self._count_quotes(line) == 0 or self._is_comment(line):
            return False
        rows = self._rows(line.rstrip(b"\r\n") + b"\nnext", is_strict=False)
        if rows is None:  # a value is too long for Python
            return self._count_quotes(line) % 2 == 1
        return rows[-1] != ["next"]

    def _is_record(self, lines: list[bytes]) -> bool:
        """Whether lines are one record, or several records, two of which contain a stray quote."""
        fields = self._fields(b"".join(lines))
        if fields is None or (self.frames.names and len(fields) != len(self.frames.names)):
            return False
        is_complete = [line.count(self.delimiter) + 1 == len(fields) for line in lines]
        return len(fields) == 1 or not (all(is_complete) or any(is_complete[1:-1]))

    def _refusal(self, record: bytes, length: int) -> str | None:
        if length == 0:
            return _UNCLOSED
        return None if _is_utf8(record) else _NOT_UTF8

    def _is_kept(self, record: bytes) -> bool:
        return bool(record.strip(b"\r\n")) and not self._is_comment(record)

    def _is_comment(self, line: bytes) -> bool:
        return self.comment is not None and line.startswith(self.comment)

    def _count_quotes(self, line: bytes) -> int:
        return line.count(self.quote) if self.quote else 0

    def _fields(self, record: bytes) -> list[str] | None:
        """The fields of a record; None if it opens a quote and does not close it, or ends before the last line."""
        rows = self._rows(record, is_strict=True)
        if rows is None or len(rows) > 1:
            return None
        return rows[0] if rows else []

    def _rows(self, lines: bytes, *, is_strict: bool) -> list[list[str]] | None:
        """The rows that Python finds in lines; None if it finds an error."""
        text = io.StringIO(lines.decode("utf-8", "surrogateescape"), newline="")
        try:
            return list(csv.reader(text, strict=is_strict, **self.layout.dialect))
        except csv.Error:
            return None


def _footer_bytes(landed: BinaryIO, size_bytes: int, lines: int) -> int:
    """The bytes of the last lines of a file, with the blank lines after them."""
    if not lines:
        return 0
    landed.seek(max(size_bytes - _LONGEST_RECORD_BYTES, 0))
    tail = landed.read()
    landed.seek(0)
    kept = tail.rstrip(b"\r\n").splitlines(keepends=True)[:-lines]
    return len(tail) - sum(map(len, kept))


def _is_utf8(value: bytes) -> bool:
    try:
        return value.isascii() or bool(value.decode())
    except UnicodeDecodeError:
        return False


def _shown(line: bytes) -> str:
    return line.rstrip(b"\r\n").decode("utf-8", "backslashreplace")


def _bytes(text: str | None) -> bytes | None:
    return text.encode() if text else None
