"""Arrow columns in Feast's wire format: one column at a time, without an object per value."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView, Field, ValueType

from liftloop.feast_plugins.wire_format import (
    BOOL_TAG,
    DOUBLE_TAG,
    FLOAT_TAG,
    INT32_TAG,
    INT64_TAG,
    MISSING_TIME,
    NANOSECONDS_TAG,
    SECONDS_TAG,
    TEXT_TAG,
    TIME_TAG,
    key_prefix,
)

_TAGS = {
    ValueType.STRING: TEXT_TAG,
    ValueType.INT32: INT32_TAG,
    ValueType.INT64: INT64_TAG,
    ValueType.DOUBLE: DOUBLE_TAG,
    ValueType.FLOAT: FLOAT_TAG,
    ValueType.BOOL: BOOL_TAG,
    ValueType.UNIX_TIMESTAMP: TIME_TAG,
}

_ARROW_TYPES = {
    ValueType.STRING: pa.string(),
    ValueType.INT32: pa.int32(),
    ValueType.INT64: pa.int64(),
    ValueType.DOUBLE: pa.float64(),
    ValueType.FLOAT: pa.float32(),
    ValueType.BOOL: pa.int64(),
    ValueType.UNIX_TIMESTAMP: pa.int64(),
}
_KEY_TYPES = (ValueType.STRING, ValueType.INT32, ValueType.INT64)

_NOTHING = pa.scalar(b"", pa.binary())
_DIGITS = np.arange(10, dtype=np.uint64)  # a varint of 64 bits has up to ten


@dataclass(frozen=True)
class ViewRows:
    """Rows of a view to write: one row per key, with the view's column names."""

    view: FeatureView
    table: pa.Table
    event_time: str  # its column
    created_time: str | None = None  # its column, where the source has one

    @property
    def is_native(self) -> bool:
        """Whether this module can encode the whole view; not for a view without keys."""
        names = set(self.table.column_names)
        fields = [*self.view.entity_columns, *self.view.features]
        return (
            names.issuperset(field.name for field in fields)
            and all(field.dtype.to_value_type() in _KEY_TYPES for field in self.view.entity_columns)
            and all(_is_native(self.table[field.name].type, field.dtype.to_value_type()) for field in fields)
        )

    def parts(self, rows: int) -> Iterator["ViewRows"]:
        """The rows in order, in parts of `rows` rows, with each column contiguous."""
        for start in range(0, len(self.table), rows):
            yield replace(self, table=self.table.slice(start, rows).combine_chunks())

    def keys(self, suffix: bytes = b"") -> pa.BinaryArray:
        """Each row's entity key in Feast's serialization 3, followed by the suffix.

        Raises:
            ValueError: a key is NULL.
        """
        fields = sorted(self.view.entity_columns, key=lambda field: field.name)
        prefix = pa.scalar(key_prefix(field.name for field in fields), pa.binary())
        values = [_key_part(self.column(field.name), field) for field in fields]
        return joined(prefix, *values, pa.scalar(suffix, pa.binary()))

    def column(self, name: str) -> pa.Array:
        return self.table[name].combine_chunks()


def native_values(column: pa.Array, field: Field) -> pa.Array:
    """The values in the Arrow type that represents the feature's type; NaN becomes NULL, times are whole seconds.

    Raises:
        pa.ArrowInvalid: an integer is too large for the feature's type.
    """
    if pa.types.is_timestamp(column.type):
        return pa.array(microseconds(column) // 1_000_000, mask=pc.is_null(column).to_numpy(zero_copy_only=False))
    values = column.cast(_ARROW_TYPES[field.dtype.to_value_type()])
    if pa.types.is_floating(values.type):
        return pc.if_else(pc.is_nan(values), None, values)
    return values


def value_bytes(column: pa.Array, field: Field) -> pa.BinaryArray:
    """Each value as a serialized `feast.types.Value`, as Feast's local engine writes it; empty if missing.

    In columns with missing values integers stay exact, where Feast rounds them to floats.
    """
    value_type, values = field.dtype.to_value_type(), native_values(column, field)
    if value_type == ValueType.UNIX_TIMESTAMP:
        return _varints(_filled(values, MISSING_TIME), _TAGS[value_type])
    if value_type == ValueType.STRING:
        text = values.cast(pa.binary())
        encoded = joined(_varints(_filled(pc.binary_length(text), 0), _TAGS[value_type]), text)
    elif pa.types.is_floating(values.type):
        kind = "<f8" if value_type == ValueType.DOUBLE else "<f4"
        encoded = _packed(("u1", _TAGS[value_type]), (kind, _filled(values, 0)))
    else:
        encoded = _varints(_filled(values, 0), _TAGS[value_type])
    return pc.if_else(pc.is_valid(values), encoded, _NOTHING)


def time_bytes(microseconds_since_1970: npt.NDArray[np.int64]) -> pa.BinaryArray:
    """Each time as a serialized `google.protobuf.Timestamp`, which omits zero fields."""
    seconds, rest = np.divmod(microseconds_since_1970, 1_000_000)
    parts = ((seconds, SECONDS_TAG), (rest * 1_000, NANOSECONDS_TAG))
    return joined(*(pc.if_else(pa.array(part != 0), _varints(part, tag), _NOTHING) for part, tag in parts))


def microseconds(column: pa.Array, missing: int = 0) -> npt.NDArray[np.int64]:
    """Timestamps of any unit and zone in microseconds since 1970; finer digits are truncated."""
    return _filled(column.cast(pa.timestamp("us", tz=column.type.tz), safe=False).cast(pa.int64()), missing)


def joined(*parts: pa.Array | pa.Scalar) -> pa.BinaryArray:
    """The concatenated parts of each row."""
    return pc.binary_join_element_wise(*parts, _NOTHING)


def _is_native(kind: pa.DataType, value_type: ValueType) -> bool:
    """Whether this module encodes a column of this Arrow type as values of this Feast type."""
    if value_type in (ValueType.DOUBLE, ValueType.FLOAT):
        return bool(pa.types.is_floating(kind))
    if value_type in (ValueType.INT64, ValueType.INT32):
        return bool(pa.types.is_integer(kind))
    if value_type == ValueType.STRING:
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
    if value_type == ValueType.BOOL:
        return bool(pa.types.is_boolean(kind))
    return value_type == ValueType.UNIX_TIMESTAMP and bool(pa.types.is_timestamp(kind))


def _key_part(column: pa.Array, field: Field) -> pa.BinaryArray:
    if column.null_count:
        raise ValueError(f"{field.name} is NULL in {column.null_count:,} rows; a key must have a value")
    value_type, values = field.dtype.to_value_type(), native_values(column, field)
    if value_type == ValueType.STRING:
        text = values.cast(pa.binary())
        return joined(_packed(("<u4", value_type.value), ("<u4", pc.binary_length(text))), text)
    kind = "<i4" if value_type == ValueType.INT32 else "<i8"
    return _packed(("<u4", value_type.value), ("<u4", np.dtype(kind).itemsize), (kind, values))


def _varints(numbers: npt.NDArray[Any], tag: int) -> pa.BinaryArray:
    """The tag and each integer as a varint: groups of seven bits, lowest first; a set eighth bit means more follow."""
    unsigned = numbers.astype(np.int64).view(np.uint64)[:, None]
    groups = unsigned >> (7 * _DIGITS)
    is_used = groups != 0
    is_used[:, 0] = True
    is_followed = np.zeros_like(is_used)
    is_followed[:, :-1] = is_used[:, 1:]
    digits = (groups & 0x7F | np.where(is_followed, 0x80, 0).astype(np.uint64)).astype(np.uint8)
    tagged = np.insert(digits, 0, tag, axis=1)
    is_written = np.insert(is_used, 0, True, axis=1)
    return _binary(tagged[is_written], is_written.sum(axis=1))


def _packed(*parts: tuple[str, Any]) -> pa.BinaryArray:
    """Concatenated fixed-width numbers: pairs of NumPy type and column, or one number for all rows."""
    rows = max(np.size(values) for _, values in parts)
    records = np.empty(rows, [(str(number), kind) for number, (kind, _) in enumerate(parts)])
    for number, (_, values) in enumerate(parts):
        records[str(number)] = values
    return _binary(records.view(np.uint8), np.full(rows, records.itemsize))


def _binary(data: npt.NDArray[np.uint8], lengths: npt.NDArray[Any]) -> pa.BinaryArray:
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return pa.Array.from_buffers(pa.binary(), len(lengths), [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def _filled(values: pa.Array, missing: int) -> npt.NDArray[Any]:
    numbers: npt.NDArray[Any] = values.fill_null(missing).to_numpy(zero_copy_only=False)
    return numbers
