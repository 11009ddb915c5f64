"""Prefect tasks, one per step. Each opens its store from the settings of the process it runs in."""
