"""Pending work, health, and when to train again."""
