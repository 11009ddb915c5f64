"""Rows stored as evidence."""

import io

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from liftloop.storage.store import ObjectRef, Store


def put_parquet_blob(store: Store, rows: pd.DataFrame) -> ObjectRef:
    """Store rows as a Parquet blob; returns its reference."""
    body = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), body, compression="zstd")
    return store.put_blob(body.getvalue(), ".parquet")
