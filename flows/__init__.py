"""Wiring only: which steps follow which. Each flow records what it read and wrote."""
