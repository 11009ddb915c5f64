"""The publisher's bugs: a small share of rows is corrupted, with one bug per row."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

HOUR_MS = 3_600_000

# Each bug sets these columns of its rows; values are computed from the whole clean table.
_BUGS: dict[str, dict[str, Callable[[pa.Table], pa.Array | pa.Scalar]]] = {
    "missing_impression_id": {"imp_id": lambda _: pa.scalar(None, pa.int64())},
    "missing_creative": {"creative": lambda _: pa.scalar(None, pa.string())},
    "missing_timestamp": {"ts": lambda _: pa.scalar(None, pa.int64())},
    "timestamp_in_seconds": {"ts": lambda table: pc.divide(table["ts"], 1000)},
    "outcome_before_impression": {"out_ts": lambda table: pc.subtract(table["ts"], HOUR_MS)},
    "zero_propensity": {"prob": lambda _: pa.scalar(0.0)},
    "negative_cost": {"cost_micros": lambda table: pc.negate(table["cost_micros"])},
    "click_without_impression": {
        "imp_id": lambda _: pa.scalar(None, pa.int64()),
        "clk": lambda _: pa.scalar(1, pa.int8()),
    },
}
_SENT_TWICE = "sent_twice"  # the same row again at the end of its file
KINDS = (*_BUGS, _SENT_TWICE)


def spoil(table: pa.Table, rng: np.random.Generator, *, share: float) -> tuple[pa.Table, dict[str, int]]:
    """The table with `share` of its rows corrupted by a random kind of bug, and the number of rows by kind."""
    struck = rng.choice(table.num_rows, round(share * table.num_rows), replace=False)
    kind = rng.integers(len(KINDS), size=len(struck))
    for index, bug in enumerate(_BUGS):
        table = _strike(table, struck[kind == index], bug)
    twice = table.take(pa.array(struck[kind == KINDS.index(_SENT_TWICE)]))
    counts = dict(zip(KINDS, np.bincount(kind, minlength=len(KINDS)).tolist(), strict=True))
    return pa.concat_tables([table, twice]), counts


def _strike(table: pa.Table, rows: np.ndarray, bug: str) -> pa.Table:
    is_struck = np.zeros(table.num_rows, dtype=bool)
    is_struck[rows] = True
    for column, value in _BUGS[bug].items():
        spoiled = pc.if_else(pa.array(is_struck), value(table), table[column])
        table = table.set_column(table.schema.get_field_index(column), column, spoiled)
    return table
