"""The gate's checks; `gate/specifications.py` lists them."""
