"""From the training frame to a calibrated model, on Dask or in one process."""
