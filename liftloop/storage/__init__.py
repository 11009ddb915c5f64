"""Access to the bucket: objects, keys, records, runs, Parquet, DuckDB."""
