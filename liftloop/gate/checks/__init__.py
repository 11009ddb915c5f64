"""The checks that the gate makes; `all.py` lists them."""
