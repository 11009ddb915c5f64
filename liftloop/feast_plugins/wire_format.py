"""Feast's wire format of single values, times and keys; `arrow_encoding.py` writes whole columns."""

import struct
from collections.abc import Iterable, Iterator
from typing import Any

# Field number and wire type that protobuf writes before a value of `feast.types.Value`.
TEXT_TAG, INT32_TAG, INT64_TAG, DOUBLE_TAG, FLOAT_TAG, BOOL_TAG, TIME_TAG = 0x12, 0x18, 0x20, 0x29, 0x35, 0x38, 0x40
SECONDS_TAG, NANOSECONDS_TAG = 0x08, 0x10  # of `google.protobuf.Timestamp`
TEXT_KEY, INT64_KEY = 2, 4  # `feast.types.ValueType`
MISSING_TIME = -(2**63)  # Feast's encoding of a missing `UnixTimestamp`

_DOUBLE, _FLOAT = struct.Struct("<xd"), struct.Struct("<xf")
_VARINT_TAGS = (TEXT_TAG, INT32_TAG, INT64_TAG, BOOL_TAG, TIME_TAG)


def key_prefix(join_keys: Iterable[str]) -> bytes:
    """The start of an entity key in Feast's serialization 3: the sorted names of the join keys."""
    names = [name.encode() for name in sorted(join_keys)]
    parts = (struct.pack("<II", TEXT_KEY, len(name)) + name for name in names)
    return struct.pack("<I", len(names)) + b"".join(parts)


def key_value(value: str | int) -> bytes:
    """One value of an entity key in serialization 3: text, or an INT64."""
    if isinstance(value, int):
        return struct.pack("<IIq", INT64_KEY, 8, value)
    text = value.encode()
    return struct.pack("<II", TEXT_KEY, len(text)) + text


def read_time(timestamp: bytes) -> int:
    """Microseconds since 1970 of a serialized `google.protobuf.Timestamp`."""
    parts = {SECONDS_TAG: 0, NANOSECONDS_TAG: 0} | dict(_fields(timestamp))
    return parts[SECONDS_TAG] * 1_000_000 + parts[NANOSECONDS_TAG] // 1_000


def read_value(data: bytes | None) -> Any:
    """The value of a serialized scalar `feast.types.Value`, whose first byte is its field and type; None if missing.

    Raises:
        TypeError: it has an unsupported type, such as a list.
    """
    if not data:
        return None
    tag = data[0]
    if tag == DOUBLE_TAG:
        return _DOUBLE.unpack(data)[0]
    if tag == FLOAT_TAG:
        return _FLOAT.unpack(data)[0]
    if tag not in _VARINT_TAGS:
        raise TypeError(f"unsupported type of value: field {tag >> 3} of feast.types.Value")
    number, end = read_varint(data, 1)
    if tag == TEXT_TAG:  # the number is the text's length
        return data[end:].decode()
    return None if tag == TIME_TAG and number == MISSING_TIME else number


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A signed 64-bit varint (groups of seven bits, lowest first), and the position after it."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return (value - 2**64 if value >= 2**63 else value), at


def _fields(message: bytes) -> Iterator[tuple[int, int]]:
    """The tag and value of each integer field."""
    at = 0
    while at < len(message):
        tag = message[at]
        value, at = read_varint(message, at + 1)
        yield tag, value
