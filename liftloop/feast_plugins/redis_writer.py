"""Bulk writes to Redis in the layout of Feast's own store: whole columns become one stream of commands."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from feast import RepoConfig
from feast.infra.online_stores.helpers import _mmh3, compute_versioned_name
from redis import Redis

from liftloop.feast_plugins.arrow_encoding import ViewRows, joined, microseconds, time_bytes, value_bytes

ROWS_PER_WRITE = 2_000

# Check and write are atomic on the server, so the rule also holds for concurrent writers. Lua's numbers are doubles,
# which can hold seconds and nanoseconds, but not both in one number, nor the 64 bits of a negative number.
_WRITE_UNLESS_OLDER = """
local function varint(bytes, first)
  local last = first
  while bytes:byte(last) >= 128 do last = last + 1 end
  local is_negative = last - first == 9
  local value = 0
  for at = is_negative and last - 1 or last, first, -1 do
    local digit = bytes:byte(at) % 128
    value = value * 128 + (is_negative and 127 - digit or digit)
  end
  return is_negative and -1 - value or value, last + 1
end
local function moment(timestamp)
  local field, at = {[8] = 0, [16] = 0}, 1
  while at <= #timestamp do
    local tag = timestamp:byte(at)
    field[tag], at = varint(timestamp, at + 1)
  end
  return field[8], field[16]
end
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if stored and stored ~= ARGV[2] then
  local stored_seconds, stored_nanoseconds = moment(stored)
  local seconds, nanoseconds = moment(ARGV[2])
  if stored_seconds > seconds or (stored_seconds == seconds and stored_nanoseconds > nanoseconds) then return 0 end
end
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1
"""


def write_rows(client: Redis, config: RepoConfig, rows: ViewRows) -> None:
    """Write the rows whose event time is not older than the stored one; rows of equal event time are replaced.

    Raises:
        redis.RedisError: the server does not answer or refuses a row.
    """
    script = str(client.script_load(_WRITE_UNLESS_OLDER)).encode()
    with _connection(client) as connection:
        awaited = 0
        for part in rows.parts(ROWS_PER_WRITE):
            connection.send_packed_command([memoryview(_commands(script, config, part))])
            _read_replies(connection, awaited)  # of the previous part, which the server executes during the encoding
            awaited = len(part.table)
        _read_replies(connection, awaited)


@contextmanager
def _connection(client: Redis) -> Iterator[Any]:
    connection: Any = client.connection_pool.get_connection()
    try:
        yield connection
    except BaseException:
        connection.disconnect()  # unread replies would be taken for replies to the next command
        raise
    finally:
        client.connection_pool.release(connection)


def _read_replies(connection: Any, count: int) -> None:
    for _ in range(count):
        connection.read_response()


def _commands(script: bytes, config: RepoConfig, rows: ViewRows) -> pa.Buffer:
    """One call of the script for each row, in Redis's protocol: key, time, then each feature's field and value."""
    view = rows.view
    name = compute_versioned_name(view, config.registry.enable_online_feature_view_versioning)
    words: list[bytes | pa.Array] = [b"EVALSHA", script, b"1", rows.keys(config.project.encode())]
    words += [f"_ts:{name}".encode(), time_bytes(microseconds(rows.column(rows.event_time)))]
    for field in view.features:
        words += [_mmh3(f"{name}:{field.name}"), value_bytes(rows.column(field.name), field)]
    header = pa.scalar(f"*{len(words)}\r\n".encode(), pa.binary())
    return joined(header, *(_word(word) for word in words)).buffers()[2]


def _word(word: bytes | pa.Array) -> pa.Scalar | pa.Array:
    """A string, or a column of strings, with its length in front."""
    end = pa.scalar(b"\r\n", pa.binary())
    if isinstance(word, bytes):
        return pa.scalar(b"$%d\r\n%s\r\n" % (len(word), word), pa.binary())
    lengths = pc.binary_length(word).cast(pa.string()).cast(pa.binary())
    return joined(pa.scalar(b"$", pa.binary()), lengths, end, word, end)
