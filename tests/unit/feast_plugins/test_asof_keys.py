"""Keys are compared as the text they are: no cast makes 7 of 007, and a gap among integers makes no floats of them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liftloop.feast_plugins.asof_join import AsofJoin, ParquetTable, join_features
from liftloop.feast_plugins.duckdb_s3 import S3Access

MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("table", "asked", "found"),
    [
        (["007", "7", "house"], [7, 8], [1.0, None]),
        ([7, 8], ["007", "8"], [None, 1.0]),
        ([7.0, 8.5], [7, 8], [0.0, None]),
        ([7, 8], [7.0, float("nan")], [0.0, None]),
        (["7", None], [None, "7"], [None, 0.0]),
    ],
)
def test_keys_of_different_types(tmp_path: Path, table: list[Any], asked: list[Any], found: list[Any]) -> None:
    values = [float(place) for place in range(len(table))]
    pq.write_table(pa.table({"key": table, "at": [MIDNIGHT] * len(table), "value": values}), tmp_path / "0.parquet")
    moments = pd.to_datetime([MIDNIGHT + timedelta(hours=1)] * len(asked))
    join = AsofJoin(ParquetTable(str(tmp_path / "*.parquet"), "at", date_partition=None), {"key": "of"}, {"value": "v"})
    joined = join_features(
        S3Access(None, "us-east-1", None, None), pd.DataFrame({"of": asked, "at": moments}), "at", [join]
    )
    assert joined.to_pydict() == {"v": found}
