"""The simulation: the real plans, in an order and with faults that are drawn from a seed.

    simulate()                      # generated machines
    simulate(order, deps=StandIn())  # a user's own

What it drives is the service's own code on a real store; what it replaces is the world: time,
sleep, randomness, and who goes on when.
"""

from holdfast.testing.simulation.faults import Faults
from holdfast.testing.simulation.report import Report, VacuousError, ViolationError
from holdfast.testing.simulation.simulate import simulate, tell

__all__ = ["Faults", "Report", "VacuousError", "ViolationError", "simulate", "tell"]
