"""Networks of whole numbers, as chips hold them, and their exact simulation."""

from hw_export.integer.arithmetic import GENERIC, Arithmetic, code_of
from hw_export.integer.energy import Counts, EnergyModel
from hw_export.integer.network import Conv, Dense, Flatten, IntegerLIF, IntegerNetwork, Pool, spread
from hw_export.integer.simulator import IntegerSimulator, Run

__all__ = [
    "GENERIC", "Arithmetic", "Conv", "Counts", "Dense", "EnergyModel", "Flatten", "IntegerLIF", "IntegerNetwork",
    "IntegerSimulator", "Pool", "Run", "code_of", "spread",
]  # fmt: skip
