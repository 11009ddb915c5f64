"""A publisher whose logs look real and whose truth is known: calibrated on the Open Bandit Dataset's click counts."""

from liftloop.datasets.simulated.publisher import SimulationSettings, SimulationSummary, simulate

__all__ = ["SimulationSettings", "SimulationSummary", "simulate"]
