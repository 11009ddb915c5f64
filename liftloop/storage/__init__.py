"""Every byte in the bucket: objects, records, runs, Parquet, and DuckDB's view of them."""
