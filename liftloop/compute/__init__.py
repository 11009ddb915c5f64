"""Where heavy work runs: here, or on Dask workers."""
