"""Lineage of every object, and verification that it is unchanged."""
