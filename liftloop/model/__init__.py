"""A model: raw columns in, a calibrated probability out."""
