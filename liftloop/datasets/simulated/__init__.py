"""A simulated publisher with realistic logs and known truth, calibrated on the Open Bandit Dataset's click counts."""

from liftloop.datasets.simulated.publisher import SimulationSettings, SimulationSummary, simulate

__all__ = ["SimulationSettings", "SimulationSummary", "simulate"]
