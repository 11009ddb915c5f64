"""Wiring only: the order of steps. Each flow records what it reads and writes."""
